"""How many requests an origin bears at once. Pure: the caller tells the time."""

from __future__ import annotations

_LEAST = 1.0
_AFTER_REFUSAL = 0.5
_AFTER_SLOWNESS = 0.8
_PAUSE_SECONDS = 0.1
"""After the first refusal that names no time; it doubles with each one in a row."""
_MOST_PAUSE_SECONDS = 5.0
_WEIGHT = 0.1
"""Of the newest answer in the average wait."""
_SLOW_TIMES = 4.0
_SLOW_SECONDS = 0.25
"""An origin is slow when its answers take four times their usual time and a quarter of a second more."""
_FORGET = 0.001
"""How fast the usual wait rises to the average, in parts of it per answer: an origin may have moved away."""


class RequestLimit:
    """Raises the number of requests step by step while all is well, and lowers it at once when the origin complains.

    Additive increase, multiplicative decrease, as TCP does it: one more for as many answers as are allowed at once,
    half of them after a refusal, a fifth less when answers get slow. The requests that were under way when it was
    lowered are not held against it.

    Args:
        most: what it begins with and does not exceed.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._allowed = self._most
        self._lowered_at = float("-inf")
        self._refusals = 0
        self._usual = 0.0
        self._average = 0.0
        self.closed_until = float("-inf")
        """Nothing may be asked before this moment."""

    @property
    def allowed(self) -> int:
        """Requests that may be under way at once."""
        return int(self._allowed)

    def answered(self, *, asked_at: float, now: float, waited: float, under_way: int) -> None:
        """Note a success.

        Args:
            asked_at: when it was asked for.
            now: the present moment, in seconds of the same clock.
            waited: seconds until the answer began; 0 if that is not known.
            under_way: requests at present, this one included.
        """
        if asked_at < self._lowered_at:
            return
        self._refusals = 0
        if waited > 0 and self._is_slow(waited):
            self._lower(under_way, _AFTER_SLOWNESS, now)
            self._average = self._usual  # what comes next shows whether it helped
        else:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)

    def refused(self, *, asked_at: float, now: float, retry_after: float, under_way: int) -> None:
        """Note that the origin asked to slow down, and to be left alone for ``retry_after`` seconds (0: not said)."""
        pause = retry_after
        if asked_at >= self._lowered_at:
            self._lower(under_way, _AFTER_REFUSAL, now)
            pause = pause or min(_PAUSE_SECONDS * 2**self._refusals, _MOST_PAUSE_SECONDS)
            self._refusals += 1
        self.closed_until = max(self.closed_until, now + pause)

    def _lower(self, under_way: int, factor: float, now: float) -> None:
        self._allowed = max(_LEAST, min(self._allowed, under_way) * factor)
        self._lowered_at = now

    def _is_slow(self, waited: float) -> bool:
        if not self._average:
            self._usual = self._average = waited
        self._average += (waited - self._average) * _WEIGHT
        self._usual = min(waited, self._usual + (self._average - self._usual) * _FORGET)
        return self._average > self._usual * _SLOW_TIMES + _SLOW_SECONDS
