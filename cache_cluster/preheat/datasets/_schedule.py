"""When a dataset is loaded: cron schedules in a time zone, and deadlines. Pure.

A schedule is read as Debian's cron reads it. Where the clocks go forward, what was to run in the hour that is left out
runs when it is over; where they go back, what runs at a fixed time in the hour that comes twice runs once, the first
time. A schedule whose minute or hour begins with ``*`` goes by the time that passes, so it runs in both of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from preheat.errors import InvalidRequest
from preheat.units import parse_deadline

_ALIASES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_FIELDS = 5


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidRequest: this machine knows none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError) as error:  # a name that leads elsewhere, that nobody has, or of a directory
        raise InvalidRequest(
            f"timezone={name[:80]!r} is not known here.",
            remedy="Write a name of the IANA database: Europe/Berlin, or UTC.",
        ) from error


def check_schedule(schedule: str, timezone: str) -> None:
    """Refuse what is no schedule, or never comes.

    Raises:
        InvalidRequest: the schedule or the time zone cannot be used.
    """
    zone = zone_of(timezone)
    if not schedule:
        return
    try:
        next(_moments(schedule, datetime(2024, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration) as error:
        raise InvalidRequest(
            f"schedule={schedule[:80]!r} is no cron schedule: {error or 'it never comes'}.",
            remedy="Write minute, hour, day, month and weekday, as in '0 2 * * *' for 02:00 every day, or @daily.",
        ) from error


@lru_cache(maxsize=4096)
def next_time(schedule: str, timezone: str, after: float) -> float:
    """Return the first time of a schedule after a moment, both in seconds since the epoch."""
    start = datetime.fromtimestamp(after, tz=zone_of(timezone))
    return next(moment for found in _moments(schedule, start) if (moment := found.timestamp()) > after)


def check_deadline(deadline: str) -> None:
    """Refuse what is no deadline; raises InvalidRequest."""
    if deadline:
        deadline_after(deadline, 0.0)


def deadline_after(deadline: str, moment: float) -> float:
    """Return until when a load that begins at a moment must have ended, in seconds since the epoch.

    Args:
        deadline: a time span such as ``2h``, or a time of day such as ``06:00 Europe/Berlin``, in UTC without a zone.
        moment: in seconds since the epoch.

    Raises:
        InvalidRequest: it is neither, or the zone is not known.
    """
    text, _, zone = deadline.strip().partition(" ")
    if len(text) > len("23:59") + 2 or "-" in text:
        raise InvalidRequest(
            f"deadline={deadline[:80]!r} is neither a time span nor a time of day.",
            remedy="Write 2h, or 06:00 Europe/Berlin.",
        )
    now = datetime.fromtimestamp(moment, tz=UTC)
    return parse_deadline(text, now=now, zone=zone_of(zone.strip() or "UTC")).timestamp()


def _moments(schedule: str, after: datetime) -> CronSim:
    fields = _ALIASES.get(schedule.strip().lower(), schedule)
    if len(fields.split()) != _FIELDS:
        raise CronSimError(f"it has {len(fields.split())} fields, not {_FIELDS}")
    return CronSim(fields, after)
