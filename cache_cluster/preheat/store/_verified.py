"""What is known to be intact in an open file without reading it: what was verified lately, and not written to since.

With each write the kernel sets a file's ctime, whoever writes, and nobody can set it back. So bytes that matched their
checksum may be sent from the file as they are, uncopied, while that time stands. It is bounded what this does not see:

- The ctime goes by ticks of a few milliseconds. One that is less than a second old proves nothing: another write may
  hide in its tick. So nothing is taken for intact in a pack that is being filled.
- It is looked at once a millisecond, not for each read.
- A page may leave the kernel's cache, and a decayed medium give back another one: what was verified holds for ten
  seconds, then it is read and verified again.
"""

from __future__ import annotations

import os
import time
from time import monotonic

_SETTLED_NANOSECONDS = 1_000_000_000
_LOOK_SECONDS = 0.001
_HOLDS_SECONDS = 10.0

Places = dict[int, float]
"""By place until when what was verified there holds, on the monotonic clock."""


class Verified:
    """The places of one open file whose bytes were verified; safe to use from several threads.

    Args:
        descriptor: the file's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._known: tuple[int, Places] = 0, {}
        """The file's ctime, in nanoseconds, and what was verified since."""
        self._looked_at = 0.0

    def holds(self, place: int) -> bool:
        """Whether the bytes at a place were verified lately, and nothing wrote to the file since."""
        now = monotonic()
        if self._known[1].get(place, 0.0) < now:
            return False
        return now < self._looked_at + _LOOK_SECONDS or place in self.since_written()

    def since_written(self) -> Places:
        """Return what was verified since the last write, for :meth:`note` of what is read from now on."""
        self._looked_at = monotonic()
        changed = os.fstat(self._descriptor).st_ctime_ns
        known = self._known
        if changed != known[0]:
            self._known = known = changed, {}
        return known[1] if time.time_ns() - changed > _SETTLED_NANOSECONDS else {}


def note(places: Places, place: int) -> None:
    """Note that the bytes at a place were verified now; the places were asked for before they were read."""
    places[place] = monotonic() + _HOLDS_SECONDS
