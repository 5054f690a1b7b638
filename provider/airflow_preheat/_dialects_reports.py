"""What an Alluxio says about a load job, read leniently: no two versions say it the same way.

The forms are those of its public sources and documentation; what is missing counts as zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, cast, get_args

from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import ENDED, Failure, Job, JobState, Tally

_OTHER_STATES: Mapping[str, JobState] = {"COMPLETED": "SUCCEEDED", "CANCELED": "STOPPED", "CREATED": "WAITING"}
"""Those of the job service before 3.x."""
_STATE_LINE = re.compile(r"Job State:\s*(\w+)[ \t]*(?:\((.*)\))?")
_LINE = re.compile(r"^\s*([A-Z][A-Za-z ]+?):[ \t]*(.+?)\s*$", re.MULTILINE)
_SIZE = re.compile(r"([\d.]+)\s*([KMGTPE]?)i?B")
_UNITS = ("", "K", "M", "G", "T", "P", "E")
_MISSING = ("cannot be found", "no job found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How far a load job is."""

    state: JobState
    listed: int = 0
    """Files."""
    loaded: int = 0
    skipped: int = 0
    failed: int = 0
    loaded_bytes: int = 0
    skipped_bytes: int = 0
    total_bytes: int = 0
    reason: str = ""
    failures: Sequence[Failure] = field(default_factory=tuple)

    def as_job(self, *, job_id: str, paths: Sequence[str], url: str) -> Job:
        """Return the job as the native API would have it, as far as it is known."""
        known_bytes = self.loaded_bytes + self.skipped_bytes
        all_bytes = max(self.total_bytes, known_bytes)
        done = self.loaded + self.skipped
        return {
            "id": job_id,
            "type": "load",
            "paths": list(paths),
            "state": self.state,
            "listed": _tally(self.listed, all_bytes),
            "loaded": _tally(self.loaded, self.loaded_bytes),
            "skipped": _tally(self.skipped, self.skipped_bytes),
            "failed": _tally(self.failed, 0),
            "remaining": _tally(self.listed - done - self.failed, all_bytes - known_bytes),
            "hotFraction": min(1.0, done / self.listed) if self.listed else float(self.state == "SUCCEEDED"),
            "datasetVersion": None,
            "listingDone": self.state in ENDED,
            "failures": list(self.failures),
            "reason": self.reason,
            "url": url,
            "attached": False,
        }


def is_missing(text: str) -> bool:
    """Return whether an answer says that there is no such job."""
    return any(words in text.lower() for words in _MISSING)


def read_progress(body: bytes) -> Report:
    """Read a progress report, whether JSON or text, and whatever it is wrapped in.

    Raises:
        PreheatError: there is no report in it, or one in a state that is not known.
    """
    text = body.decode(errors="replace")
    report = _find_report(read_json(body) or text)
    if report is None:
        raise PreheatError(f"Alluxio's answer is no progress report: {text[:200]!r}. Is the dialect the right one?")
    return report


def read_row(row: Mapping[str, Any]) -> Report:
    """Read a job of ``/api/v1/load``, which leaves out what is empty."""
    state = _state(str(row["state"]))
    listed, loaded, failed = (_number(row.get(key)) for key in ("scannedFiles", "loadedNonEmptyFiles", "failedFiles"))
    errors = row.get("errorMessage")
    texts = (row.get("reason"), row.get("quotaCheckError"), errors if isinstance(errors, str) else "")
    return Report(
        state=state,
        listed=max(listed, loaded + failed),
        loaded=loaded,
        # It does not say how many were there, or are empty: that is the rest, once all are done.
        skipped=max(0, listed - loaded - failed) if state == "SUCCEEDED" else 0,
        failed=failed,
        loaded_bytes=_number(row.get("loadedBytes")),
        skipped_bytes=_number(row.get("skippedBytes")),
        total_bytes=_number(row.get("totalBytes")),
        reason=" ".join(str(text) for text in texts if text),
        failures=_failures(errors),
    )


def read_json(body: bytes) -> Any:
    """Return a body's JSON value, or ``None`` if it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _find_report(value: object) -> Report | None:
    match value:
        case {"mJobState": state, **fields}:
            return _from_json(_state(str(state)), fields)
        case str() if "Job State:" in value:
            return _from_text(value)
        case str() if value.lstrip().startswith(("{", '"')):
            return _find_report(read_json(value.encode()))
        case dict():
            found = next((report for item in value.values() if (report := _find_report(item))), None)
            state = value.get("jobState") or value.get("state")
            return found or (Report(state=_state(str(state))) if state else None)
    return None


def _from_json(state: JobState, fields: Mapping[object, Any]) -> Report:
    reason = fields.get("mFailureReason") or ""
    return _from_counts(
        state=state,
        processed=_number(fields.get("mProcessedFileCount", fields.get("mProcessedInodesCount"))),
        scanned=_number(fields.get("mScannedInodesCount")),
        skipped=_number(fields.get("mSkippedFileCount")),
        failed=_number(fields.get("mFailedFileCount")),
        loaded_bytes=_number(fields.get("mLoadedByteCount")),
        skipped_bytes=_number(fields.get("mSkippedByteCount")),
        total_bytes=_number(fields.get("mTotalByteCount")),
        reason=str(reason.get("message", "")) if isinstance(reason, dict) else str(reason),
        failures=_failures(fields.get("mFailedFilesWithReasons")),
    )


def _from_text(text: str) -> Report:
    state = cast("re.Match[str]", _STATE_LINE.search(text))
    lines = dict(_LINE.findall(text))
    loaded_bytes, total_bytes = _sizes(lines.get("Bytes Loaded", ""))
    return _from_counts(
        state=_state(state[1]),
        processed=_number(lines.get("Files Processed", lines.get("Inodes Processed"))),
        scanned=_number(lines.get("Inodes Scanned")),
        skipped=_number(lines.get("Files Skipped")),
        failed=_number(lines.get("Files Failed")),
        loaded_bytes=loaded_bytes,
        skipped_bytes=_sizes(lines.get("Bytes Skipped", ""))[0],
        total_bytes=total_bytes,
        reason=state[2] or "",
    )


def _from_counts(*, processed: int, scanned: int, skipped: int, failed: int, **rest: Any) -> Report:
    done = max(0, processed - failed)
    skipped = min(skipped, done)
    listed = max(scanned, processed, failed)
    return Report(listed=listed, loaded=done - skipped, skipped=skipped, failed=failed, **rest)


def _state(text: str) -> JobState:
    # A dialect-A answer breaks off within the reason: "FAILED (alluxio.exception.runtime.InternalRuntimeException".
    word = text.strip().split(" ", 1)[0].upper()
    name = _OTHER_STATES.get(word, word)
    if name not in get_args(JobState):
        raise PreheatError(f"Alluxio says that the job is {text[:40]!r}, a state that this provider does not know.")
    return cast("JobState", name)


def _number(value: object) -> int:
    """Read a count; Java writes what it cannot divide as ``NaN``."""
    try:
        number = float(str(value))
    except ValueError:
        return 0
    return int(number) if isfinite(number) and number > 0 else 0


def _sizes(text: str) -> tuple[int, int]:
    """Return the bytes in ``640.00MB out of 1600.00MB``: done, and in total as far as it is known."""
    sizes = [round(float(number) * 1024 ** _UNITS.index(unit)) for number, unit in _SIZE.findall(text)]
    done, total = [*sizes, 0, 0][:2]
    return done, total


def _failures(reasons: object) -> list[Failure]:
    if not isinstance(reasons, dict):
        return []
    return [{"path": path, "size": 0, "code": "failed", "message": str(text)} for path, text in reasons.items()]


def _tally(files: int, size: int) -> Tally:
    return {"files": max(0, files), "bytes": max(0, size)}
