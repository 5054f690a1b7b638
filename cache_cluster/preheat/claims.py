"""Claims: who waits for a job, and when nobody does any more. Pure: control in, control out; the caller gives the time.

Airflow cancels remote jobs that others took over: a trigger that is moved to another triggerer, or a task that is
cleared, kills the job of its own successor. So each process that waits claims the job in the name of its waiter with a
fresh fence. Only the present fence can cancel, its cancel takes effect after a grace time, and a new claim revokes it.
A job with several waiters is abandoned when the last one has left.
"""

from __future__ import annotations

from dataclasses import replace

from preheat.jobs import JobControl, Waiter


def claim(control: JobControl, waiter: str, fence: str) -> JobControl:
    """Let a waiter wait with this fence; an earlier fence of its own, and its pending cancel, are void."""
    return replace(control, waiters=control.waiters | {waiter: Waiter(fence=fence)})


def cancel(control: JobControl, waiter: str, fence: str, *, leaves_at: float) -> JobControl:
    """Let a waiter leave at a time to come; nothing changes if the fence is not its present one."""
    known = control.waiters.get(waiter)
    if known is None or known.fence != fence or known.leaves_at is not None:
        return control
    return replace(control, waiters=control.waiters | {waiter: replace(known, leaves_at=leaves_at)})


def abandoned(control: JobControl, now: float) -> bool:
    """Say whether the job had waiters, and all have left."""
    return bool(control.waiters) and all(
        waiter.leaves_at is not None and waiter.leaves_at <= now for waiter in control.waiters.values()
    )
