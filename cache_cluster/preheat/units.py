"""Sizes, rates, durations and deadlines as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from preheat.errors import InvalidRequest

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)(?:/s)?\s*", re.IGNORECASE)
_SPAN = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|h|d)")
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_ALLUXIO_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
_ALLUXIO_NEXT_UNIT_FROM = 5 * 1024


def parse_size(text: str | int, *, field: str = "size") -> int:
    """Return the bytes in ``"50GiB"``, ``"100MB"``, ``"64k"`` or a plain number.

    ``KiB``/``K`` count 1024, ``KB`` counts 1000, as the IEC and SI say. A trailing ``/s`` is allowed for rates.

    Raises:
        InvalidRequest: the text is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"{field}={text!r} is not a size.", remedy="Write for example 50GiB, 100MB or 4096.")
    number, power, binary, unit = match.groups()
    base = 1000 if unit and not binary else 1024
    return round(float(number) * float(base ** _POWERS[power.lower()]))


def human_size(size: float) -> str:
    """Return a size in IEC units with three significant digits, e.g. ``1.46 GiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        size /= 1024
        if size < 1024 or unit == "PiB":
            break
    return f"{size:.2f} {unit}" if size < 100 else f"{size:.0f} {unit}"


def alluxio_size(size: float) -> str:
    """Return a size as Alluxio writes it: ``5120B``, ``5.00KB``, ``1600.00MB``.

    As its ``FormatUtils.getSizeFromBytes`` does, it goes to the next unit only from more than 5 × 1024 on.
    """
    if size <= _ALLUXIO_NEXT_UNIT_FROM:
        return f"{size:.0f}B"
    unit = 0
    while size > _ALLUXIO_NEXT_UNIT_FROM and unit + 1 < len(_ALLUXIO_UNITS):
        size /= 1024
        unit += 1
    return f"{size:.2f}{_ALLUXIO_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Return a duration such as ``0.42 s``, ``3 m 07 s`` or ``2 h 05 m``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def parse_deadline(text: str, *, now: datetime, zone: tzinfo | None = None) -> datetime:
    """Return the moment, in UTC, of a deadline such as ``2h``, ``06:00`` or ``2030-01-31T06:00:00+01:00``.

    Args:
        text: a time from now on, a time of day (its next one) or an ISO 8601 time with an offset.
        now: the present moment, with an offset.
        zone: where the time of day is read off a clock; by default this machine's zone.

    Raises:
        InvalidRequest: the text is none of these.
    """
    if span := _SPAN.fullmatch(text.strip()):
        return now.astimezone(UTC) + timedelta(seconds=float(span[1]) * _SPAN_SECONDS[span[2]])
    if clock := _CLOCK.fullmatch(text.strip()):
        return _next_time_of_day(time(int(clock[1]), int(clock[2])), now=now, zone=zone)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(
            f"deadline={text!r} is not a time.",
            remedy="Write 2h, 06:00 (the next one), or an ISO 8601 time with an offset: 2030-01-31T06:00:00+01:00.",
        ) from error
    if moment.tzinfo is None:
        raise InvalidRequest(f"deadline={text!r} has no offset.", remedy=f"Write {text}Z, or {text}+01:00.")
    return moment.astimezone(UTC)


def _next_time_of_day(clock: time, *, now: datetime, zone: tzinfo | None) -> datetime:
    today = now.astimezone(zone).date()
    moments = (datetime.combine(today + timedelta(days=days), clock, tzinfo=zone).astimezone(UTC) for days in (0, 1))
    return next(moment for moment in moments if moment > now)
