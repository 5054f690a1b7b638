"""A file opened through the cache: one version from the first byte to the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from preheat.fs._filesystem import PreheatFileSystem


class PreheatFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A binary file with read-ahead, pinned to the etag that it had when it was opened.

    A read raises VersionChanged if that version is neither cached nor at the under store any more.
    """

    DEFAULT_BLOCK_SIZE = 4 << 20

    def __init__(self, fs: PreheatFileSystem, path: str, *, details: dict[str, Any], **options: Any) -> None:
        self.etag: str = details["etag"]
        super().__init__(fs, path, mode="rb", size=details["size"], **options)
        self.details = details

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start=start, end=end, etag=self.etag)
        return data
