"""By when a task's job must have ended, as people write it. Pure: the present moment is an argument."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TypeAlias

import pendulum
from pendulum.tz.exceptions import InvalidTimezone

from airflow_preheat.exceptions import PreheatRequestError

Deadline: TypeAlias = "timedelta | datetime | str"
"""A time after the submit, a moment, or a text for either; see :func:`resolve`."""

MAX_WAIT = timedelta(days=7)
"""How long a task waits that sets no limit of its own; as Airflow's sensors."""
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_ZONE = re.compile(r"[A-Za-z][\w/+-]*")
_OFFSET = re.compile(r"(?:[Zz]|[+-]\d{2}:?\d{2})$")
_FORMS = "Write 06:00 Europe/Berlin, 2030-01-31T06:00:00+01:00, 2030-01-31 06:00 Europe/Berlin, PT2H or a timedelta"


def give_up_at(
    deadline: Deadline | None, execution_timeout: timedelta | None, *, now: datetime, since: datetime | None
) -> datetime:
    """Return when a task stops waiting: at the earlier of its two limits, or after :data:`MAX_WAIT` if it has none.

    Airflow does not enforce ``execution_timeout`` while a task is deferred.

    Raises:
        PreheatRequestError: the deadline cannot be used.
    """
    limits = [resolve(deadline, now=now, since=since or now)] if deadline else []
    if execution_timeout is not None:
        limits.append(now + execution_timeout)
    return min(limits, default=now + MAX_WAIT)


def resolve(deadline: Deadline, *, now: datetime, since: datetime) -> datetime:
    """Return the moment that a deadline is.

    Args:
        deadline: a timedelta or an ISO 8601 duration (``PT2H``) counts from ``now``; a datetime is itself, as a text
            with its offset or with the name of its time zone. A time of the day with a time zone, ``06:00
            Europe/Berlin``, is the first one at or after ``since``; an hour that summer time skips is the next one.
        now: the present moment.
        since: when the DAG run started: so all tries of a task have the same deadline.

    Raises:
        PreheatRequestError: it is none of these, or names no time zone.
    """
    if isinstance(deadline, str):
        deadline = _parse(deadline, since)
    if isinstance(deadline, timedelta):
        return now + deadline
    if not isinstance(deadline, datetime) or deadline.tzinfo is None:
        raise _unusable(deadline, "has no time zone")
    return deadline


def _parse(text: str, since: datetime) -> datetime | timedelta:
    moment, zone = _split_zone(text)
    clock = _CLOCK.fullmatch(moment)
    if clock is not None and zone is not None:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        return _next(hour, minute, second, since=pendulum.instance(since).in_timezone(zone))
    if zone is None and not moment.startswith("P") and not _OFFSET.search(moment):
        raise _unusable(text, "has no time zone")
    try:
        parsed = pendulum.parse(moment, tz=zone or "UTC", exact=True)
    except ValueError as error:
        raise _unusable(text, "is not understood") from error
    if not isinstance(parsed, pendulum.DateTime | pendulum.Duration):
        raise _unusable(text, "is not understood")
    return parsed


def _split_zone(text: str) -> tuple[str, str | None]:
    """Return what comes before the name of a time zone, and the name if there is one."""
    moment, _, zone = text.strip().rpartition(" ")
    if not moment or not _ZONE.fullmatch(zone):
        return text.strip(), None
    try:
        pendulum.timezone(zone)
    except InvalidTimezone as error:
        raise _unusable(text, f"names the time zone {zone!r}, which is not known") from error
    return moment.strip(), zone


def _next(hour: int, minute: int, second: int, *, since: pendulum.DateTime) -> datetime:
    for day in (since, since.add(days=1)):
        # Not day.at(…): that goes back an hour where summer time skips one, and this goes on.
        moment = pendulum.datetime(day.year, day.month, day.day, hour, minute, second, tz=since.tzinfo)
        if moment >= since:
            break
    return moment


def _unusable(deadline: object, problem: str) -> PreheatRequestError:
    return PreheatRequestError(f"deadline={str(deadline)!r} {problem}. {_FORMS}.")
