"""What takes longer than one object, as a job of the coordinator that is waited for."""

from __future__ import annotations

import asyncio

import msgspec

from preheat.errors import Conflict, DeadlineExceeded
from preheat.worker._coordinators import ControlPlane

_SECONDS = 600.0
"""Alluxio's clients set no limit of their own."""
_ROUND_SECONDS = 20.0


class _Job(msgspec.Struct, frozen=True):
    id: str
    state: str
    revision: int
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs:
    """Runs jobs.

    Args:
        control: finds a coordinator.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def run(self, kind: str, path: str, *, destination: str = "", authorization: str | None = None) -> None:
        """Submit a job for a path, and return when it succeeded.

        Raises:
            Conflict: it did not.
            DeadlineExceeded: it goes on.
            PreheatError: the coordinator refused it, or none answers.
        """
        body = {"type": kind, "paths": [path], "destination": destination}
        body = {name: value for name, value in body.items() if value}
        job = msgspec.json.decode(
            await self._control.ask("POST", "/v1/jobs", json=body, authorization=authorization), type=_Job
        )
        try:
            async with asyncio.timeout(_SECONDS):
                while not job.ended:
                    job = await self._changed(job, authorization)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The {kind} of {path} goes on.", remedy=f"Follow it with `preheat job stat {job.id}`."
            ) from error
        if job.state != "SUCCEEDED":
            raise Conflict(
                f"The {kind} of {path} ended as {job.state}: {job.reason or 'no reason is known'}.",
                remedy=f"See `preheat job stat {job.id}`.",
            )

    async def _changed(self, job: _Job, authorization: str | None) -> _Job:
        params = {"wait": str(_ROUND_SECONDS), "after": str(job.revision)}
        answer = await self._control.ask("GET", f"/v1/jobs/{job.id}", params=params, authorization=authorization)
        return msgspec.json.decode(answer, type=_Job)
