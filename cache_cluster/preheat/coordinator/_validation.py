"""What a submit must keep to. Pure: each check names the field, the value and the remedy."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise

from preheat import destinations
from preheat.errors import InvalidRequest, NoLiveWorker
from preheat.filters import KeyFilter
from preheat.jobs import JobOptions, JobSpec, JobType
from preheat.paths import UfsPath

_MAX_BATCH = 10_000


def validate(spec: JobSpec, *, live_workers: int) -> None:
    """Refuse a spec that cannot be done.

    Raises:
        InvalidRequest: an option or a path cannot be used.
        NoLiveWorker: nobody could do it.
    """
    if not spec.paths and not spec.index:
        raise InvalidRequest("paths is empty.", remedy="Name at least one path, or an index file.")
    for path in (*spec.paths, *filter(None, (spec.index, spec.destination))):
        UfsPath.parse(path)
    _validate_type(spec)
    if not 1 <= spec.options.batch_size <= _MAX_BATCH:
        raise InvalidRequest(f"batchSize={spec.options.batch_size} is not between 1 and {_MAX_BATCH}.")
    validate_bandwidth(spec.options.bandwidth)
    _validate_filter(spec.options.file_filter_regex)
    _validate_criterion(spec.options)
    _validate_replicas(1 if spec.type is JobType.FREE else spec.options.replicas, live_workers)


def _validate_type(spec: JobSpec) -> None:
    """Refuse what another type of job takes."""
    kind, options = spec.type, spec.options
    if kind is not JobType.LOAD:
        only = {"index": spec.index, "verify": options.verify, "loadMetadataOnly": options.load_metadata_only}
        for name in (name for name, given in only.items() if given):
            raise InvalidRequest(f"{name} is only for type=load, not {kind}.", remedy="Leave it out.")
    if kind is JobType.REBALANCE:
        _validate_rebalance(spec)
    if options.verify and options.load_metadata_only:
        raise InvalidRequest("verify=true with loadMetadataOnly=true: no bytes are loaded that could be verified.")
    if kind.has_destination:
        _validate_destination(spec)
    elif spec.destination:
        raise InvalidRequest(f"destination is only for type=copy and type=move, not {kind}.", remedy="Leave it out.")


def _validate_rebalance(spec: JobSpec) -> None:
    """Refuse what would look at an object twice: the second look cannot tell how many copies there were."""
    if spec.options.replicas != 1:
        raise InvalidRequest(
            f"replicas={spec.options.replicas} is not for type=rebalance: it keeps the number of copies.",
            remedy="Leave it out, or submit type=replicate.",
        )
    roots = sorted((f"{str(UfsPath.parse(path)).rstrip('/')}/", path) for path in spec.paths)
    for (root, path), (other_root, other) in pairwise(roots):
        if other_root.startswith(root):
            raise InvalidRequest(f"paths has {other!r}, which is below {path!r}.", remedy=f"Leave {other!r} out.")


def _validate_destination(spec: JobSpec) -> None:
    if not spec.destination:
        raise InvalidRequest(
            f"destination is missing for type={spec.type}.", remedy="Write where to, s3://BUCKET/DIR/."
        )
    if len(spec.paths) != 1:
        raise InvalidRequest(f"paths has {len(spec.paths)} elements; type={spec.type} takes one.")
    destinations.check(spec.paths[0], spec.destination)


def validate_bandwidth(bandwidth: int | None) -> None:
    """Refuse a bandwidth that is not positive."""
    if bandwidth is not None and bandwidth <= 0:
        raise InvalidRequest(
            f"bandwidth should be greater than 0 if provided, get {bandwidth}.", remedy="Leave it out for no limit."
        )


def _validate_filter(pattern: str | None) -> None:
    if pattern:
        KeyFilter(pattern)


def _validate_criterion(options: JobOptions) -> None:
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
            f"replicas={replicas} is more than the number of live workers, {live_workers}.",
            remedy="Lower it, or add workers.",
        )
