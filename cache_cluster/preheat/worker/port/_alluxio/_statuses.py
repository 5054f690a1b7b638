"""Files and directories as Alluxio's clients see them. Directories are what keys have in common up to a slash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from preheat.errors import InvalidRequest, ObjectNotFound
from preheat.mounts import MountTable
from preheat.paths import UfsPath
from preheat.units import alluxio_size
from preheat.versions import ObjectInfo
from preheat.worker._forward import Forward
from preheat.worker._reads import ReadService

_PAGE = 1000
_MAX_ENTRIES = 100_000
_LAST = "\U0010ffff"
"""The character behind all others."""
_PLAIN = "/~!$&'()*+,;=:@"
"""What a URL's path may have as it is, besides letters, digits and ``-._``."""

Status = dict[str, Any]


class Statuses:
    """Answers ``/v1/info`` and ``/v1/files``.

    Args:
        reads: what knows the directories and the mounts.
        forward: what knows the files, or who does.
    """

    def __init__(self, reads: ReadService, forward: Forward) -> None:
        self._reads = reads
        self._forward = forward

    async def status(self, path: UfsPath) -> Status:
        """Return what a path is: an object, else a directory if something is below it.

        Raises:
            ObjectNotFound: it is neither. Otherwise as ``UnderStore.list``.
        """
        mounts = self._reads.policies.mounts
        if path.key and not path.key.endswith("/"):
            try:
                info, _ = await self._forward.stat(path)
            except ObjectNotFound:
                pass
            else:
                return _file(path, info, mounts)
        directory = _as_directory(path)
        if not await self._reads.list(directory, after="", limit=1) and directory.key:
            raise ObjectNotFound(f"path='{path}' is no file, and there is none below it.")
        return _directory(directory, mounts)

    async def children(self, path: UfsPath) -> list[Status]:
        """Return what is in a directory, or the file itself where a path is one.

        Raises:
            ObjectNotFound: there is nothing at or below the path.
            InvalidRequest: there are too many for one answer. Otherwise as ``UnderStore.list``.
        """
        directory = _as_directory(path)
        found = await self._children(directory)
        return [await self.status(path)] if found is None and directory.key else found or []

    async def _children(self, directory: UfsPath) -> list[Status] | None:
        """Return what is in a directory; none if there is no such directory."""
        names: dict[str, None] = {}
        objects: list[ObjectInfo] = []
        start, after = len(directory.key), ""
        while page := await self._reads.list(directory, after=after, limit=_PAGE):
            for info in page:
                name, slash, _ = info.key[start:].partition("/")
                if slash:
                    names[name] = None
                elif name:
                    objects.append(info)
            if len(names) + len(objects) > _MAX_ENTRIES:
                raise InvalidRequest(
                    f"path='{directory}' has more than {_MAX_ENTRIES} entries, and this listing has no pages.",
                    remedy="List it with the S3 API or with /v1/list.",
                )
            after = _behind(page[-1].key, start)
        return self._described(directory, names, objects) if after else None

    def _described(self, directory: UfsPath, names: Iterable[str], objects: Iterable[ObjectInfo]) -> list[Status]:
        mounts = self._reads.policies.mounts
        below = [_directory(directory.with_key(f"{directory.key}{name}/"), mounts) for name in names]
        return [*below, *(_file(directory.with_key(info.key), info, mounts) for info in objects)]


def _behind(key: str, start: int) -> str:
    """Return where a listing goes on behind a key: behind its whole directory, if it is in one."""
    name, slash, _ = key[start:].partition("/")
    return max(key, f"{key[:start]}{name}/{_LAST}") if slash else key


def _as_directory(path: UfsPath) -> UfsPath:
    return path if not path.key or path.key.endswith("/") else path.with_key(f"{path.key}/")


def _file(path: UfsPath, info: ObjectInfo, mounts: MountTable) -> Status:
    return {
        "mType": "file",
        "mLength": info.size,
        "mHumanReadableFileSize": alluxio_size(info.size),
        "mCompleted": True,
        "mPersisted": True,
        "mContentHash": info.etag,
        **_named(path, mounts, int(info.last_modified * 1000)),
    }


def _directory(path: UfsPath, mounts: MountTable) -> Status:
    """Describe a directory, without the slash at its end unless its name is empty."""
    stripped = path.key[:-1]
    shown = path.with_key(stripped) if stripped and not stripped.endswith("/") else path
    return {"mType": "directory", "mLength": 0, "mHumanReadableFileSize": "0B", **_named(shown, mounts, 0)}


def _named(path: UfsPath, mounts: MountTable, modified: int) -> Status:
    return {
        "mName": path.key.rpartition("/")[2] if path.key else path.bucket,
        "mPath": _served_path(path, mounts),
        "mUfsPath": str(path),
        "mCreationTimeMs": modified,
        "mLastModificationTimeMs": modified,
    }


def _served_path(path: UfsPath, mounts: MountTable) -> str:
    """Return a path as it stands in a URL of the S3 port: ``alluxiofs`` puts it behind ``http://HOST:29998``."""
    uri, mount = str(path), mounts.of(str(path))
    if mount.name:
        return f"/{mount.name}/{quote(uri.removeprefix(mount.path), safe=_PLAIN)}"
    bucket = f"/{path.bucket}" if path.bucket else ""
    return f"{bucket}/{quote(path.key, safe=_PLAIN)}"
