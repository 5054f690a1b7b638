"""The mounts and pins that a worker knew last, in a file: reads obey them from its start, before the engine answers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from preheat.inventory import Pin
from preheat.logs import get_logger
from preheat.mounts import Mount

log = get_logger("worker")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept."""

    mounts: tuple[Mount, ...] = ()
    pins: tuple[Pin, ...] = ()


class KeptPolicies:
    """The file.

    Args:
        file: where it is; none keeps nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.known = self._read()

    def keep(self, known: Kept) -> None:
        """Replace what is kept. A disk that refuses is no reader's error: the engine tells it again."""
        if self._file is None or known == self.known:
            return
        self.known = known
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_bytes(msgspec.json.encode(known))
            draft.replace(self._file)
        except OSError as error:
            log.warning("Mounts and pins could not be kept.", action="policies_lost", error=str(error))

    def _read(self) -> Kept:
        if self._file is None or not self._file.exists():
            return Kept()
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError) as error:
            log.warning(
                "Mounts and pins are not known until the engine answers.", action="file_ignored", error=str(error)
            )
            return Kept()
