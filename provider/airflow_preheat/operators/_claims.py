"""How a task claims jobs and gives its claims up. That the coordinator is away then is a line in the log only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_preheat._watch import AFTER_CANCEL
from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import Claim

if TYPE_CHECKING:
    from airflow_preheat.hooks import PreheatHook

_LEAVING_SECONDS = 60.0
"""A claim that is made to be cancelled ends by itself if the cancel does not get through."""


def send(hook: PreheatHook, claim: Claim) -> None:
    """Claim a job; who waits for it claims it again, and is patient."""
    try:
        hook.claim(claim)
    except PreheatError as error:
        hook.log.warning("Preheat job %s could not be claimed: %s", claim.job_id, error)


def cancel(hook: PreheatHook, claim: Claim) -> None:
    """Wait for a job no longer."""
    try:
        hook.cancel(claim)
    except PreheatError as error:
        hook.log.warning("Preheat job %s could not be cancelled: %s", claim.job_id, error)
    else:
        hook.log.info("Preheat job %s was cancelled. %s", claim.job_id, AFTER_CANCEL)


def leave(hook: PreheatHook, job_id: str, waiter: str) -> None:
    """Cancel a job in the place of the process that waited for it before."""
    claim = Claim(job_id=job_id, waiter=waiter, lease=_LEAVING_SECONDS)
    send(hook, claim)
    cancel(hook, claim)
