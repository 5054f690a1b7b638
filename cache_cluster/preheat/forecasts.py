"""When a running job will have ended, from how fast it went of late. Pure: the clock is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from preheat.jobs import Forecast, Job, Progress, Tally

_MARKS = 60
"""How many points of the recent past are remembered."""
_SHORTEST = 1 / 30
"""The share of the window after which a rate is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How far a pass was at a moment."""

    at: float
    ended: Tally
    """What has a result, and the bytes of what the workers have fetched of the rest."""


class Pace:
    """How far a job was in the last few minutes. It begins anew with each of the job's passes.

    Args:
        window_seconds: how far back the rate looks.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._marks: deque[Mark] = deque()

    def forecast(self, job: Job, *, now: float, in_flight: int = 0, expected: Tally | None = None) -> Forecast:
        """Return when the job ends at its present rate.

        Args:
            job: as it is now.
            now: seconds since the epoch.
            in_flight: bytes that the workers have fetched and not reported.
            expected: what the job will list, if that is known before its listing has ended.
        """
        current = job.verification or job.trimming or job.work
        ended = current.listed - current.remaining + Tally(bytes=in_flight)
        since = self._remember(Mark(at=now, ended=ended))
        if now - since.at < self._window * _SHORTEST:
            return job.forecast
        whole = _whole(job, current, expected)
        left = (whole or current.listed) - ended
        seconds = _seconds(left, ended - since.ended, now - since.at)
        if seconds is None:  # nothing has moved in all that time: what was feared is not averted
            return replace(job.forecast, finish_at=None)
        deadline = job.spec.options.deadline
        late = deadline is not None and now + seconds > deadline  # for what is listed so far it is so in any case
        return Forecast(finish_at=now + seconds if whole else None, late=late)

    def _remember(self, mark: Mark) -> Mark:
        """Return the mark to reckon from: the oldest one in the window."""
        last = self._marks[-1] if self._marks else mark
        if mark.ended.objects < last.ended.objects or mark.at < last.at:  # another pass, or the clock was set back
            self._marks.clear()
        if not self._marks or mark.at - self._marks[-1].at >= self._window / _MARKS:
            self._marks.append(mark)
        while len(self._marks) > 1 and self._marks[0].at < mark.at - self._window:
            self._marks.popleft()
        return self._marks[0]


def _whole(job: Job, current: Progress, expected: Tally | None) -> Tally | None:
    """Return what the present pass will have listed in the end; none if nobody knows."""
    if current.listing_done:
        return current.listed
    if current is not job.work:
        return job.work.listed
    if expected is None or expected.objects < current.listed.objects or expected.bytes < current.listed.bytes:
        return None
    return expected


def _seconds(left: Tally, moved: Tally, span: float) -> float | None:
    """Return how long the rest takes: by its bytes, and by its number where no bytes were moved."""
    if left.objects <= 0:
        return 0.0
    if moved.bytes > 0 and left.bytes > 0:
        return span * left.bytes / moved.bytes
    return span * left.objects / moved.objects if moved.objects > 0 else None
