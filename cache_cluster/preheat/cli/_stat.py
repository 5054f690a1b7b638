"""``preheat job stat``: a job in the layout of ``alluxio job stat``, with more of its lines; pure."""

from __future__ import annotations

from collections.abc import Sequence

from preheat.cli._outcome import count
from preheat.cli._output import shown_time
from preheat.client import JobReport, Options, TaskReport
from preheat.jobs import JobState, JobType
from preheat.units import human_size

_DONE = {
    JobType.LOAD: "Loaded",
    JobType.FREE: "Freed",
    JobType.COPY: "Copied",
    JobType.MOVE: "Moved",
    JobType.REPLICATE: "Replicated",
    JobType.REBALANCE: "Moved",
    JobType.PERSIST: "Persisted",
}


def render_job(job: JobReport, tasks: Sequence[TaskReport] = (), *, verbose: bool = False) -> str:
    """Return a job as text; its options and tasks too if ``verbose``."""
    pairs = [*_identity(job), *_counts(job), *_times(job), *(_options(job.options) if verbose else [])]
    lines = [f"{name}: {value}" for name, value in pairs if value]
    for number, task in enumerate(tasks):
        lines += [f"Task {number}", *(f"\t{name}: {value}" for name, value in _task(task) if value)]
    return "\n".join(lines)


def _identity(job: JobReport) -> list[tuple[str, str]]:
    source = job.index or " ".join(job.paths)
    return [
        ("ID", job.id),
        ("Name", job.type.capitalize()),
        ("Description", f"{source} -> {job.destination}" if job.destination else source),
        ("Status", job.state),
        ("Note" if job.state is JobState.SUCCEEDED else "Error", job.reason),
        ("Queue Position", str(job.queue_position or "")),
    ]


def _counts(job: JobReport) -> list[tuple[str, str]]:
    is_load = job.type is JobType.LOAD
    return [
        ("Listed", count(job.listed) + ("" if job.listing_done else ", and listing goes on")),
        (_DONE[job.type], count(job.loaded)),
        ("Skipped", count(job.skipped)),
        ("Failed", count(job.failed)),
        ("Remaining", count(job.remaining)),
        ("In Flight", human_size(job.in_flight) if job.in_flight else ""),
        ("Verified", count(job.verified) if job.verified else ""),
        ("Hot", f"{job.hot_fraction:.1%}" if is_load else ""),
        ("Dataset Version", job.dataset_version or ""),
        ("Receipt", f"preheat receipt show {job.id}" if job.receipt else ""),
    ]


def _times(job: JobReport) -> list[tuple[str, str]]:
    return [
        ("Submitted", shown_time(job.submitted_at)),
        ("Started", shown_time(job.started_at) if job.started_at else ""),
        ("Finished", shown_time(job.finished_at) if job.finished_at else ""),
        ("Forecast", _forecast(job)),
        ("Page", job.url),
    ]


def _forecast(job: JobReport) -> str:
    if job.forecast is None or not (job.forecast.finish_at or job.forecast.late):
        return ""
    finish = f"ends at {shown_time(job.forecast.finish_at)}" if job.forecast.finish_at else "goes on"
    deadline = f", after its deadline at {shown_time(job.options.deadline)}" if job.options.deadline else ""
    return finish + (deadline if job.forecast.late else "")


def _options(options: Options) -> list[tuple[str, str]]:
    return [
        ("Replicas", str(options.replicas)),
        ("Batch Size", str(options.batch_size)),
        ("Skip If Exists", str(options.skip_if_exists).lower()),
        ("Metadata Only", str(options.load_metadata_only).lower()),
        ("Verify", str(options.verify).lower()),
        ("Bandwidth", f"{human_size(options.bandwidth)}/s" if options.bandwidth else "unlimited"),
        ("Priority", options.priority),
        ("Deadline", shown_time(options.deadline) if options.deadline else ""),
        ("File Filter", options.file_filter_regex or ""),
    ]


def _task(task: TaskReport) -> list[tuple[str, str]]:
    return [
        ("Worker", task.worker),
        ("Action", task.action),
        ("Status", task.status),
        ("Batches", f"{task.batches} done, {task.open_batches} open"),
        ("Files", f"{task.done.files} done, {task.skipped.files} skipped, {task.failed} failed"),
        ("Bytes", f"{human_size(task.done.bytes)} done, {human_size(task.skipped.bytes)} skipped"),
        ("Error", task.error),
    ]
