"""Which keys a path stands for, and which of them are still to be listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from preheat.paths import UfsPath


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What is left to list of a path after a key: at most one object, then everything below a prefix."""

    exact: str | None
    """The one key to look for; None if the path is a prefix or the key is not left."""
    prefix: str | None
    """What the other keys start with; None if none of them is left."""
    start_after: str
    """Keys up to this one are not left; empty if all below the prefix are."""

    @classmethod
    def of(cls, path: UfsPath, after: str) -> Self:
        """Return what is left of a path when every key up to and including ``after`` is dealt with."""
        is_prefix = not path.key or path.key.endswith("/")
        prefix = path.key if is_prefix else f"{path.key}/"
        return cls(
            exact=None if is_prefix or after >= path.key else path.key,
            prefix=prefix if may_hold(prefix, after) else None,
            start_after=after if after >= prefix else "",
        )

    def selects(self, key: str) -> bool:
        """Whether a key is to be listed."""
        if key == self.exact:
            return True
        return self.prefix is not None and key.startswith(self.prefix) and key > self.start_after


def may_hold(prefix: str, after: str) -> bool:
    """Whether keys that start with ``prefix`` can be greater than ``after``."""
    return after <= prefix or after.startswith(prefix)


def is_marker(key: str, size: int) -> bool:
    """Whether an object only marks a directory; such objects are left out of listings."""
    return size == 0 and key.endswith("/")
