"""Deaths of the disk store's process between any two steps that reach the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from preheat.store._files import Files, _OpenFile
from preheat.store._index import Index


class Crash(BaseException):
    """The process died."""


@contextmanager
def dying_after(steps: int) -> Iterator[None]:
    """Let so many more steps reach the disk; of the write after them, half, and then nothing any more."""
    left = steps

    def dies(*, after: Callable[[], object] = lambda: None) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            after()
        if left < 0:
            raise Crash

    def guarded(method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            dies()
            result = method(*args, **options)
            dies()
            return result

        return call

    def torn(self: _OpenFile, data: memoryview, offset: int, head: bytes = b"") -> None:
        both = head + bytes(data)
        dies(after=lambda: write(self, memoryview(both)[: len(both) // 2], offset))
        write(self, data, offset, head)

    write = _OpenFile.write
    with ExitStack() as patches:
        for kind, names in ((Files, ("create", "remove", "truncate", "mark")), (Index, ("_in_one", "finish"))):
            for name in names:
                patches.enter_context(patch.object(kind, name, guarded(getattr(kind, name))))
        patches.enter_context(patch.object(_OpenFile, "write", torn))
        yield


def spoil_index(directory: Path, index: str) -> None:
    if index == "torn":
        (directory / "index.sqlite-wal").write_bytes(b"")
    elif index == "deleted":
        for file in directory.glob("index.sqlite*"):
            file.unlink()
