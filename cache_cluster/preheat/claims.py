"""Claims: who waits for a job, and when nobody does any more. Pure: control in, control out; the caller gives the time.

Airflow cancels remote jobs that others took over: a trigger that is moved to another triggerer, or a task that is
cleared, kills the job of its own successor. So each process that waits claims the job in the name of its waiter with a
fresh fence. Only the present fence can cancel, its cancel takes effect after a grace time, and a new claim revokes it.
A job with several waiters is abandoned when the last one has left.

A process may also vanish without a cancel. So a claim may have a lease: it ends that long after the last sign of its
process, and the waiter leaves as if it had cancelled then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from preheat.jobs import JobControl, Waiter

BREAK_SECONDS = 60.0
"""A coordinator that was not there for longer may have missed renewals; who waits has time for several until then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attendance:
    """Since when a coordinator has been there without a break. While it is not, nobody can renew a lease."""

    since: float
    last: float

    def at(self, now: float) -> Attendance:
        """Return the attendance of one that is there now."""
        return Attendance(since=now if now - self.last > BREAK_SECONDS else self.since, last=now)


def claim(control: JobControl, waiter: str, fence: str, *, lease: float | None = None, now: float = 0.0) -> JobControl:
    """Let a waiter wait with this fence; an earlier fence of its own, and its pending cancel, are void.

    With a ``lease`` in seconds it waits for so long after now, and after each renewal; without, until it cancels.
    """
    return replace(control, waiters=control.waiters | {waiter: Waiter(fence=fence, lease=lease, renewed_at=now)})


def renew(control: JobControl, waiter: str, fence: str, *, now: float) -> JobControl:
    """Let a waiter's lease begin anew; nothing changes if the fence is not its present one."""
    known = control.waiters.get(waiter)
    if known is None or known.fence != fence or known.lease is None:
        return control
    return replace(control, waiters=control.waiters | {waiter: replace(known, renewed_at=now)})


def cancel(control: JobControl, waiter: str, fence: str, *, leaves_at: float) -> JobControl:
    """Let a waiter leave at a time to come; nothing changes if the fence is not its present one."""
    known = control.waiters.get(waiter)
    if known is None or known.fence != fence or known.leaves_at is not None:
        return control
    return replace(control, waiters=control.waiters | {waiter: replace(known, leaves_at=leaves_at)})


def abandoned(control: JobControl, now: float, *, attended_since: float, grace: float) -> str:
    """Return why nobody waits for the job any more; empty if somebody does, or nobody ever did.

    Args:
        control: has the waiters.
        now: the time, in seconds since the epoch as all of them.
        attended_since: since when leases could be renewed; those that ran out before begin then.
        grace: seconds after the end of a lease, and of which a cancel's time has been told already.
    """
    leaving = [
        (_leaves_at(waiter, attended_since=attended_since, grace=grace), waiter) for waiter in control.waiters.values()
    ]
    if not leaving or not all(at is not None and at <= now for at, _ in leaving):
        return ""
    silent = [waiter.lease for _, waiter in leaving if waiter.leaves_at is None and waiter.lease is not None]
    if silent:
        return f"Nobody waits for it any more: a waiter was not heard of for {max(silent):.0f} s, its lease."
    return "Everyone who waited for it has left."


def _leaves_at(waiter: Waiter, *, attended_since: float, grace: float) -> float | None:
    if waiter.leaves_at is not None or waiter.lease is None:
        return waiter.leaves_at
    return max(waiter.renewed_at, attended_since) + waiter.lease + grace
