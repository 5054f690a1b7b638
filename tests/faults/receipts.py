"""What is said of jobs in receipts. Pure: history in, violations out."""

from __future__ import annotations

from collections.abc import Iterator

import jwt

from preheat.jobs import Job, JobState
from tests.faults.history import History


def violations(history: History) -> Iterator[str]:
    """I1: a receipt comes with the success of a job that verifies, and says what was read back; all have one key."""
    keys = set[str]()
    for job in {record.job.receipt or record.job.id: record.job for record in history.records}.values():
        if bool(job.receipt) is not (job.state is JobState.SUCCEEDED and job.spec.options.verify):
            yield f"I1 {job.id} is {job.state} and its receipt is {job.receipt!r}"
        elif job.receipt:
            keys.add(jwt.get_unverified_header(job.receipt)["kid"])
            yield from _claims(job)
    if len(keys) > 1:
        yield f"I1 receipts were signed with {len(keys)} keys"


def _claims(job: Job) -> Iterator[str]:
    claims = jwt.decode(job.receipt, options={"verify_signature": False})
    read = job.verification
    assert read is not None
    counts = [claims[name]["files"] for name in ("listed", "verified", "failed")]
    if counts != [read.listed.objects, read.done.objects, read.failed.objects] or claims["epoch"] != read.epoch:
        yield f"I1 {job.id} has a receipt of {counts} files at the epoch {claims['epoch']}, and read back {read}"
