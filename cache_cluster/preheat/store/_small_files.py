"""Small JSON files that are replaced whole: what a directory must know without its index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from preheat.logs import get_logger
from preheat.store._faults import disk_faults

T = TypeVar("T")
log = get_logger("store")


def read_json(file: Path, kind: type[T]) -> T | None:
    """Return what a file says; none if there is no such file, or it cannot be understood."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("A file cannot be read and is ignored.", action="file_ignored", file=str(file), error=str(error))
        return None


def write_json(file: Path, value: object) -> None:
    """Replace a file; after a crash it says what it said before, or this.

    Raises:
        StoreFull, StoreError: the disk refused.
    """
    draft = file.with_suffix(".draft")
    with disk_faults(file):
        with draft.open("wb") as out:
            out.write(msgspec.json.encode(value))
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
