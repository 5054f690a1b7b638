"""What is agreed about parts of the under store: how fresh reads are, who may write, and which bucket S3 shows.

A mount covers everything below a prefix of the under store; of several the longest one counts. What no mount covers is
read as :data:`DEFAULT` says. A mount without a name is a rule of a dataset: it only says how fresh reads are, and
leaves all else to the mount that it lies in. Pure: the records live in the engine, each process follows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from preheat.errors import BucketNotFound, InvalidPath, InvalidRequest
from preheat.paths import UfsPath, leads_out

_NAME = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_name(text: str) -> bool:
    """Whether a mount can have a name, as S3 has it for buckets."""
    return _NAME.fullmatch(text) is not None


class Freshness(StrEnum):
    """When a reader may be given what is cached."""

    NEVER_CHECK = "never-check"  #: always, as the version that it is
    MAX_AGE = "max-age"  #: if the under store said within ``max_age`` that this version is current
    ALWAYS_CHECK = "always-check"  #: if the under store says now that it is
    PINNED = "pinned"  #: if it belongs to the pinned dataset version; nothing else is ever read


class WriteMode(StrEnum):
    """What a write does before it is acknowledged."""

    READ_ONLY = "read-only"  #: it is refused
    THROUGH = "through"  #: the under store has it
    ASYNC = "async"  #: ``write_replicas`` workers have it; it is persisted afterwards (Alluxio's ASYNC_THROUGH)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """One prefix of an under store, and what is agreed about it."""

    name: str
    """Bucket under which the S3 port shows it, and its id."""
    path: str
    """URI of the prefix, ending with a slash."""
    freshness: Freshness = Freshness.NEVER_CHECK
    max_age: float = 0.0
    """Seconds, for ``max-age``."""
    writes: WriteMode = WriteMode.READ_ONLY
    write_replicas: int = 1
    """Workers that hold a write before it is acknowledged, for ``async``."""
    temporary: tuple[str, ...] = ()
    """Prefixes below ``path``, as in ``_tmp/``, whose objects live in the cache alone and are never persisted."""

    def __post_init__(self) -> None:
        if self.name and not is_name(self.name):
            raise InvalidRequest(
                f"name={self.name[:80]!r} is no bucket's name.", remedy="Use 3 to 63 of a-z, 0-9, dot and hyphen."
            )
        if self.path and not self.path.endswith("/"):
            raise InvalidPath(f"path={self.path!r} is no prefix.", remedy=f"Write {self.path}/.")
        if self.max_age < 0 or (self.freshness is Freshness.MAX_AGE and not self.max_age):
            raise InvalidRequest(f"max-age={self.max_age:g} must be a positive number of seconds.")
        if self.write_replicas < 1:
            raise InvalidRequest(f"write-replicas={self.write_replicas} must be 1 or more.")
        for prefix in self.temporary:
            if not prefix.endswith("/") or not {"", ".", ".."}.isdisjoint(prefix[:-1].split("/")):
                raise InvalidRequest(
                    f"temporary={prefix!r} is no prefix below the mount's path.", remedy="Write a prefix such as _tmp/."
                )

    def is_temporary(self, path: UfsPath) -> bool:
        """Whether an object is one that is never persisted."""
        return any(str(path).startswith(self.path + prefix) for prefix in self.temporary)


DEFAULT = Mount(name="", path="")
"""What holds where no mount does: cached versions are served, and nothing is written."""


class MountTable:
    """All mounts at one moment.

    Args:
        mounts: in any order, with names that differ; and rules.
    """

    def __init__(self, mounts: Iterable[Mount] = ()) -> None:
        known = tuple(mounts)
        self._by_name = {mount.name: mount for mount in known if mount.name}
        named = [(mount.path, mount) for mount in self._by_name.values()]
        self._longest_first = sorted(named, key=_length, reverse=True)
        rules = [(rule.path, self._as_ruled(rule)) for rule in known if not rule.name]
        self._longest_first = sorted([*rules, *named], key=_length, reverse=True)
        self.checks_nothing = all(mount.freshness is Freshness.NEVER_CHECK for _, mount in self._longest_first)
        """Whether no read anywhere needs more than what is cached."""

    @property
    def names(self) -> tuple[str, ...]:
        """The buckets that there are, in order; none means that the under store's own are shown."""
        return tuple(sorted(self._by_name))

    def of(self, uri: str) -> Mount:
        """Return the mount that covers a path, or :data:`DEFAULT`."""
        return next((mount for path, mount in self._longest_first if _is_below(uri, path)), DEFAULT)

    def _as_ruled(self, rule: Mount) -> Mount:
        """Return what holds below a rule's path."""
        return replace(self.of(rule.path), freshness=rule.freshness, max_age=rule.max_age)

    def resolve(self, bucket: str, key: str) -> UfsPath:
        """Return the path of an object that S3 knows by a bucket and a key.

        Raises:
            BucketNotFound: there are mounts, and none has this name.
            InvalidPath: the path is none, or leads out of the bucket.
        """
        if leads_out(key):
            raise InvalidPath(f"key={key[:200]!r} leads out of the bucket.", remedy="Write it without `..`.")
        if not self._by_name:
            return UfsPath.parse(f"s3://{bucket}/{key}")
        if bucket not in self._by_name:
            raise BucketNotFound(
                f"bucket={bucket!r} is not mounted.", remedy="List the mounts with `preheat mount ls`."
            )
        return UfsPath.parse(f"{self._by_name[bucket].path}{key}")


def _length(entry: tuple[str, Mount]) -> int:
    return len(entry[0])


def _is_below(uri: str, prefix: str) -> bool:
    return uri.startswith(prefix) and not (".." in uri and leads_out(uri.removeprefix(prefix)))
