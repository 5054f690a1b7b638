"""Which directories belong together, so that none brings back what was replaced while it was away.

Each directory notes an epoch, which rises with every change of who belongs: a directory that fails, is added, is left
out or comes back. One that comes back has an older epoch than the others, and is emptied. After a change the objects
that belong to another directory now are dropped from where they were.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from functools import partial

import msgspec
from xxhash import xxh3_64_intdigest

from preheat.errors import StoreError
from preheat.logs import get_logger
from preheat.store._small_files import read_json, write_json
from preheat.store._volume import Volume

log = get_logger("store")
_NAME = "members.json"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory notes."""

    id: str
    epoch: int
    members: tuple[str, ...]
    """The ids of all, in order."""


class Members:
    """The directories that can be used. A path belongs to the one with the highest hash of both (rendezvous)."""

    def __init__(self) -> None:
        self.volumes: tuple[Volume, ...] = ()
        self._epoch = 0
        self._ids: dict[Volume, str] = {}
        self._seeds: dict[Volume, int] = {}
        self._lock = threading.Lock()

    def join(self, volumes: Sequence[Volume]) -> None:
        """Begin with the directories that could be opened; those that were away are emptied.

        Raises:
            StoreError: a disk refused.
        """
        self.volumes = tuple(volumes)
        notes = {volume: read_json(volume.directory / _NAME, Membership) for volume in volumes}
        self._epoch = max((note.epoch for note in notes.values() if note), default=0)
        away = [volume for volume, note in notes.items() if not self._know(volume, note)]
        if len(volumes) > 1:
            for volume in away:
                volume.retain(lambda _path: False)
        if away or any(note.members != self._all for note in notes.values() if note):
            self._move_on()

    @property
    def _all(self) -> tuple[str, ...]:
        return tuple(sorted(self._ids[volume] for volume in self.volumes))

    def of(self, path: str) -> Volume | None:
        """Return the directory to which a path belongs; none if none is left."""
        if len(self.volumes) <= 1:
            return self.volumes[0] if self.volumes else None
        encoded = path.encode()
        return max(self.volumes, key=lambda volume: xxh3_64_intdigest(encoded, self._seeds[volume]))

    def leave(self, volume: Volume) -> None:
        """Go on without a directory. The others note it before they take anything in its place."""
        with self._lock:
            self.volumes = tuple(other for other in self.volumes if other is not volume)
            try:
                self._note()
            except StoreError as error:
                log.warning(
                    "A directory could not note that another one failed.", action="note_failed", error=str(error)
                )

    def _know(self, volume: Volume, note: Membership | None) -> bool:
        """Take a directory in; false if it was not with the others all the time."""
        unique = note is not None and note.id not in self._ids.values()
        self._ids[volume] = note.id if note and unique else secrets.token_hex(8)
        self._seeds[volume] = xxh3_64_intdigest(self._ids[volume].encode())
        return unique and note is not None and note.epoch == self._epoch

    def _move_on(self) -> None:
        """Drop what belongs elsewhere now, and begin a new epoch."""
        if len(self.volumes) > 1:
            for volume in self.volumes:
                volume.retain(partial(self._is_of, volume))
        self._note()

    def _is_of(self, volume: Volume, path: str) -> bool:
        return self.of(path) is volume

    def _note(self) -> None:
        self._epoch += 1
        for volume in self.volumes:
            note = Membership(id=self._ids[volume], epoch=self._epoch, members=self._all)
            write_json(volume.directory / _NAME, note)
