"""What a submit must keep to. Pure: each check names the field, the value and the remedy."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from preheat.errors import InvalidRequest, NoLiveWorker
from preheat.jobs import JobSpec, LoadOptions
from preheat.paths import UfsPath

_MAX_BATCH = 10_000


def validate(spec: JobSpec, *, live_workers: int) -> None:
    """Refuse a spec that cannot be done.

    Raises:
        InvalidRequest: an option or a path cannot be used.
        NoLiveWorker: nobody could do it.
    """
    if not spec.paths:
        raise InvalidRequest("paths is empty.", remedy="Name at least one path.")
    for path in spec.paths:
        UfsPath.parse(path)
    if not 1 <= spec.options.batch_size <= _MAX_BATCH:
        raise InvalidRequest(f"batchSize={spec.options.batch_size} is not between 1 and {_MAX_BATCH}.")
    validate_bandwidth(spec.options.bandwidth)
    _validate_filter(spec.options.file_filter_regex)
    _validate_criterion(spec.options)
    _validate_replicas(spec.options.replicas, live_workers)


def validate_bandwidth(bandwidth: int | None) -> None:
    """Refuse a bandwidth that is not positive."""
    if bandwidth is not None and bandwidth <= 0:
        raise InvalidRequest(
            f"bandwidth should be greater than 0 if provided, get {bandwidth}.", remedy="Leave it out for no limit."
        )


def _validate_filter(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise InvalidRequest(f"fileFilterRegex={pattern!r}: {error}.") from error


def _validate_criterion(options: LoadOptions) -> None:
    if options.min_hot_fraction is not None and not 0 <= options.min_hot_fraction <= 1:
        raise InvalidRequest(f"minHotFraction={options.min_hot_fraction} is not between 0 and 1.")
    if options.max_failed_files is not None and options.max_failed_files < 0:
        raise InvalidRequest(f"maxFailedFiles={options.max_failed_files} is negative.")
    if options.deadline is not None and options.deadline <= time.time():
        passed = datetime.fromtimestamp(options.deadline, tz=UTC).isoformat()
        raise InvalidRequest(f"deadline={passed} has passed.", remedy="Give a time to come.")


def _validate_replicas(replicas: int, live_workers: int) -> None:
    if live_workers == 0:
        raise NoLiveWorker("No worker is live.")
    if replicas < 1:
        raise InvalidRequest(f"replicas={replicas}: numReplica should be at least 1.")
    if replicas > live_workers:
        raise InvalidRequest(
            f"replicas={replicas} but only {live_workers} workers are live.", remedy="Lower it, or add workers."
        )
