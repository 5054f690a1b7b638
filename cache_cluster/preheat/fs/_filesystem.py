"""The fsspec filesystem ``preheat://``: an under store, read and written through the cache's workers.

``preheat://bucket/key`` is ``s3://bucket/key``, and ``preheat:///absolute/path`` is ``file:///absolute/path``. The
client computes itself which worker owns an object, so a coordinator is needed once, for the placement map, and never
for a read.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import Any

from fsspec.utils import tokenize

from preheat.fs._file import ReadFile, WriteFile
from preheat.fs._listing import Info
from preheat.fs._read_ahead import GrowingReadAhead
from preheat.fs._reading import ReadingFileSystem
from preheat.fs._uploads import Upload
from preheat.fs._writing import WritingFileSystem


class PreheatFileSystem(ReadingFileSystem, WritingFileSystem):
    """Reads and writes objects through the cache.

    A file that is open, and a read with ``etag=``, stays with one version: VersionChanged is raised rather than bytes
    of another one returned. Errors are those of ``preheat.errors``, which are FileNotFoundError, PermissionError etc.
    What a mount does not allow to write raises Forbidden.

    Args:
        coordinator: base URL; by default PREHEAT_COORDINATOR_URL, or the local one.
        token: sent to coordinator and workers; by default PREHEAT_TOKEN, or what is in PREHEAT_TOKEN_FILE.
        workers: base URLs of workers to use without a coordinator. Their ids are not known, so an object may be looked
            for on another worker than the one that a job loaded it to: right bytes, but a miss.
        fallback: ``origin`` reads from the under store itself while no worker answers; that is counted in
            ``stats.fallbacks`` and logged as a warning. Writes never do. It needs ``preheat[server]``.
        freshness: how fresh reads have to be, where that is more or less than the mount's policy: ``no-cache``,
            ``max-age=60``, ``max-stale=60`` or ``only-if-cached``. Each read takes it, too.
        version: the dataset version to read, ``sha256:…``, and no other. Each read takes it, too.
        **options: as for every fsspec filesystem.
    """

    protocol = "preheat"
    root_marker = ""
    cachable = True

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,  # noqa: FBT001, FBT002 - fsspec's
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> ReadFile | WriteFile:
        if mode == "rb":
            return self._open_to_read(path, block_size=block_size, cache_options=cache_options, **options)
        if mode not in {"wb", "xb"}:
            raise NotImplementedError(f"mode={mode!r}: an object is written from its beginning, with 'wb' or 'xb'.")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return WriteFile(self, path, only_new=mode == "xb", block_size=block_size, autocommit=autocommit)

    def _open_to_read(
        self,
        path: str,
        *,
        etag: str = "",
        size: int | None = None,
        cache_type: str = GrowingReadAhead.name,
        **options: Any,
    ) -> ReadFile:
        demand = {name: options.pop(name) for name in ("freshness", "version") if name in options}
        details: Info = {"name": path, "type": "file", "size": size, "etag": etag}
        if not etag or size is None:
            details = self.info(path, **demand)
        if details["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return ReadFile(
            self,
            path,
            details=details | {"etag": etag or details["etag"]},
            cache_type=cache_type,
            block_size=options["block_size"],
            cache_options=options["cache_options"],
            **demand,
        )

    def begin_upload(self, path: str, *, only_new: bool) -> Upload:
        """Return an upload for the running loop, of which nothing has been sent yet."""
        return Upload(self._writer, self._object(path), only_new=only_new)

    def ukey(self, path: str) -> str:
        """Return what changes when the file does: its etag and size."""
        info = self.info(path)
        return str(tokenize(info.get("etag"), info["size"]))

    def checksum(self, path: str) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    def modified(self, path: str) -> datetime:
        """Return when the under store last changed the object, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    def created(self, path: str) -> datetime:
        """Return :meth:`modified`: an object is replaced, never edited."""
        return self.modified(path)
