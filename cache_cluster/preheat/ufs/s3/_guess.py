"""Guessing where the next pages of a listing will begin, from the keys of one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

_DECIMAL = "0123456789"
_HEXADECIMAL = "0123456789abcdef"


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A number in a key, such as that of ``part-00017.tar`` or a hash, and how far a page goes in such numbers."""

    head: str
    tail: str
    digits: str
    width: int
    value: int
    step: int

    @classmethod
    def of(cls, keys: Sequence[str]) -> Self | None:
        """Return the last key of a page as such a number; None if the keys have none."""
        first, last = keys[0], keys[-1]
        differ = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        end = len(last) - len(last[differ:].lstrip(_HEXADECIMAL))
        if end == differ or min(map(len, keys)) < end:
            return None
        numbers = "".join([key[differ:end] for key in keys])
        digits = next((digits for digits in (_DECIMAL, _HEXADECIMAL) if not numbers.strip(digits)), None)
        if digits is None:
            return None
        start = len(last[:differ].rstrip(digits))
        low, high = (int(key[start:end], len(digits)) for key in (first, last))
        return cls(
            head=last[:start],
            tail=last[end:],
            digits=digits,
            width=end - start,
            value=high,
            step=_step(high - low, len(keys)),
        )

    def next(self) -> Self | None:
        """Return about the last key of the page that follows; None if the numbers end before."""
        value = self.value + self.step
        return replace(self, value=value) if self.step and value < len(self.digits) ** self.width else None

    def __str__(self) -> str:
        number = f"{self.value:0{self.width}{'d' if self.digits == _DECIMAL else 'x'}}"
        return f"{self.head}{number}{self.tail}"


def _step(span: int, keys: int) -> int:
    """Return how far to go; rather a few keys twice than another request for the few in between."""
    return span + 1 if span + 1 == keys else span * 15 // 16
