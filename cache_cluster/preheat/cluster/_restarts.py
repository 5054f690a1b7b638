"""When a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartPolicy:
    """Doubling delays; a process that keeps dying soon after its start is given up."""

    first_delay: float = 0.5
    """Seconds."""
    max_delay: float = 15.0
    quick_seconds: float = 10.0
    """A process that lived at least this long had a good start, and the count begins anew."""
    max_in_a_row: int = 6
    """Deaths without a good start until it is given up: with the delays above, about 15 s of trying."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Restarts:
    """What has happened to one process so far."""

    total: int = 0
    """Deaths since the cluster started."""
    in_a_row: int = 0
    """Deaths since it last had a good start."""

    def after_death(self, *, lived_seconds: float, policy: RestartPolicy) -> Restarts:
        """Count a death."""
        in_a_row = self.in_a_row + 1 if lived_seconds < policy.quick_seconds else 1
        return replace(self, total=self.total + 1, in_a_row=in_a_row)

    def delay(self, policy: RestartPolicy) -> float | None:
        """Return the seconds until the next start; none to give up."""
        if self.in_a_row >= policy.max_in_a_row:
            return None
        return min(policy.first_delay * 2.0 ** (self.in_a_row - 1), policy.max_delay)
