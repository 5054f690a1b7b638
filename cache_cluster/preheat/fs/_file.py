"""A file opened through the cache: one version from the first byte to the last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

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
