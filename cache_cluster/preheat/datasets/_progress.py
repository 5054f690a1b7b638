"""How far a dataset is, with the job that loads it. Pure."""

from __future__ import annotations

from preheat.accounting import hot_fraction
from preheat.datasets._state import Phase, Record
from preheat.jobs import Job


def progress_of(record: Record, job: Job | None) -> float:
    """Return the share of the files that a load is done with; 1 of what is loaded, 0 of what waits."""
    if record.phase is Phase.LOADED:
        return 1.0
    if record.phase is not Phase.LOADING or job is None:
        return 0.0
    known = record.listed.objects if record.listed else 0
    listed = job.work.listed.objects if job.work.listing_done else max(job.work.listed.objects, known)
    return (job.work.listed - job.work.remaining).objects / listed if listed else 0.0


def heat_of(record: Record, job: Job | None) -> float:
    """Return the share of the files that is hot: of the load that runs, else as the last look or load found it."""
    if record.phase is Phase.LOADING and record.loaded is None:
        return hot_fraction(job) if job else 0.0
    if record.look:
        return record.look.hot_fraction
    return record.loaded.hot_fraction if record.loaded else 0.0
