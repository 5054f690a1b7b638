"""Files opened through the cache: one version from the first byte to the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from fsspec.asyn import sync
from fsspec.spec import AbstractBufferedFile

from preheat.fs._uploads import LEAST_PART_BYTES, PART_BYTES, Upload, part_bytes

if TYPE_CHECKING:
    from preheat.fs._filesystem import PreheatFileSystem


class ReadFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A binary file with read-ahead, pinned to the etag that it had when it was opened.

    A read raises VersionChanged if that version is neither cached nor at the under store any more.
    """

    DEFAULT_BLOCK_SIZE = 4 << 20

    def __init__(self, fs: PreheatFileSystem, path: str, *, details: dict[str, Any], **options: Any) -> None:
        self.etag: str = details["etag"]
        super().__init__(fs, path, mode="rb", size=details["size"], **options)
        self.details = details
        self.kwargs["etag"] = self.etag  # so that a copy by pickle stays with the version, too

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start=start, end=end, **self.kwargs)
        return data


class WriteFile(AbstractBufferedFile):  # type: ignore[misc]  # as above
    """A binary file that is written from its beginning, and appears, whole, when it is closed or committed.

    Up to a part's size it is one request; longer ones are sent part by part while they are written. A forked child that
    drops the file, or closes it, finishes nothing: its parent has it.
    """

    DEFAULT_BLOCK_SIZE = PART_BYTES

    def __init__(self, fs: PreheatFileSystem, path: str, *, only_new: bool = False, **options: Any) -> None:
        super().__init__(fs, path, mode="xb" if only_new else "wb", **options)
        self.blocksize: int = max(self.blocksize, LEAST_PART_BYTES)
        self._pid = os.getpid()
        self._only_new = only_new
        self._upload: Upload | None = None
        self._whole: bytes | memoryview = b""
        """All of it, if it is one request."""

    def close(self) -> None:
        """Send what is left, and make the object unless a transaction does."""
        if self._pid != os.getpid():
            self.forced = True  # there is nothing left to send
        super().close()

    def commit(self) -> None:
        """Make the object; fsspec calls this for a file of a transaction, in place of closing it."""
        if self._upload is None:
            self.fs.pipe_file(self.path, self._whole, mode="create" if self._only_new else "overwrite")
        else:
            sync(self.fs.loop, self._upload.complete)

    def discard(self) -> None:
        """Give up what was written."""
        self.forced = True  # nothing more is taken, and closing sends nothing
        self._whole = b""
        if self._upload is not None:
            sync(self.fs.loop, self._upload.abort)

    def _upload_chunk(self, final: bool = False) -> None:  # noqa: FBT001, FBT002 - fsspec's
        data = self.buffer.getbuffer()
        try:
            if final and self._upload is None:
                self._whole = data
            elif len(data):
                sync(self.fs.loop, self._add, data)
            if final and self.autocommit:
                self.commit()
        except BaseException:
            self.discard()
            raise

    async def _add(self, data: memoryview) -> None:
        if self._upload is None:
            self._upload = self.fs.begin_upload(self.path, only_new=self._only_new)
        count = max(1, len(data) // self.blocksize)
        size = -(-len(data) // count)  # several of a size, for only the last of all may be small
        for start in range(0, len(data), size):
            await self._upload.add(data[start : start + size])
        self.blocksize = max(self.blocksize, part_bytes(self._upload.parts))


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name, so that a broken download leaves nothing at its own."""
    partial = path.with_name(f".{uuid4().hex}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
