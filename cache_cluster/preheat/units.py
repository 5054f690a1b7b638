"""Sizes, rates and durations as people write and read them."""

from __future__ import annotations

import re

from preheat.errors import InvalidRequest

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)(?:/s)?\s*", re.IGNORECASE)


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


def human_duration(seconds: float) -> str:
    """Return a duration such as ``0.42 s``, ``3 m 07 s`` or ``2 h 05 m``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"
