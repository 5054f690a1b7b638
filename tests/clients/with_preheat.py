"""preheat://, the filesystem of the package preheat."""

import os

import fsspec
from fsspec_session import Operations
from session import ONE, Place, main, refused


class WithPreheat(Operations):
    """What differs from other filesystems."""

    def wrong_key(self):
        token = os.environ["PREHEAT_TOKEN"]
        wrong = fsspec.filesystem("preheat", token=token[:-4] + "beef", skip_instance_cache=True)
        refused(lambda: wrong.cat(self.path(ONE)), "Unauthenticated")


main(WithPreheat(fsspec.filesystem("preheat"), Place.here()).named(), list_buckets="a path begins with its bucket")
