"""How long a sensor waits and what it puts up with: every decision of it, without I/O and without a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatJobStoppedError,
    PreheatRequestError,
    PreheatUnavailableError,
    PreheatUnreachableError,
)

TIMEOUT = "timeout"
_OUTAGE_PAUSE = 5.0
"""Seconds between two requests to a coordinator that is away, at most."""

ERRORS: Mapping[str, type[PreheatError]] = {
    error.__name__: error
    for error in (
        PreheatError,
        PreheatJobFailedError,
        PreheatJobNotFoundError,
        PreheatJobStoppedError,
        PreheatRequestError,
        PreheatUnavailableError,
        PreheatUnreachableError,
    )
}
"""By the names that events have."""


class SensorEvent(TypedDict):
    """How a wait ended; the payload of a trigger's event."""

    error: str | None
    """What it came to: :data:`TIMEOUT`, the name of one of the :data:`ERRORS`, or ``None``."""
    message: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorWait:
    """How to wait: plain values, since a trigger is stored with them. Times are seconds since the epoch."""

    preheat_conn_id: str
    deadline: float
    poke_interval: float
    outage_tolerance: float
    """Seconds that the coordinator may be away before the wait is given up."""
    silent: bool = False
    """Whether to look again after an error, as Airflow's ``silent_fail`` says, unless it was the request's."""
    not_before: float = 0.0
    """When a trigger may fire at the earliest; see :class:`~airflow_preheat._watch.JobWait`."""


@dataclass(kw_only=True, slots=True)
class SensorWatch:
    """One process that waits."""

    wait: SensorWait
    note: str = field(default="", init=False)
    """How things stood at last."""
    _away_since: float | None = field(default=None, init=False)

    def time_left(self, now: float) -> float:
        """Return the seconds until the deadline; 0 after it."""
        return max(0.0, self.wait.deadline - now)

    def pause(self, asked_at: float, now: float) -> float:
        """Return how long to sleep before the next look."""
        interval = self.wait.poke_interval
        if self._away_since is not None:
            interval = min(interval, _OUTAGE_PAUSE)
        return min(max(0.0, interval - (now - asked_at)), self.time_left(now))

    def seen(self, note: str) -> None:
        """Take note of an answer."""
        self.note = note
        self._away_since = None

    def is_final(self, error: PreheatError, now: float) -> bool:
        """Take note of an error; return whether it ends the wait.

        An answer in between starts the tolerance anew.
        """
        self.note = str(error)
        if not isinstance(error, PreheatUnavailableError):
            self._away_since = None
            return not self.wait.silent or isinstance(error, PreheatRequestError)
        if self._away_since is None:
            self._away_since = now
        return not self.wait.silent and now - self._away_since >= self.wait.outage_tolerance

    def expired(self) -> SensorEvent:
        """Return that the deadline has passed."""
        return {"error": TIMEOUT, "message": f"The sensor has timed out. {self.note}".strip(), "result": None}


def failure(error: PreheatError) -> SensorEvent:
    """Return the event that an error makes."""
    known = next(base.__name__ for base in type(error).__mro__ if base.__name__ in ERRORS)
    return {"error": known, "message": str(error), "result": None}


def success(result: Mapping[str, Any]) -> SensorEvent:
    """Return the event of what was waited for."""
    return {"error": None, "message": "", "result": result}
