"""What the pages show of jobs, datasets and workers. No I/O."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import ENDED, Job, Tally, human_size, source

_Json: TypeAlias = Mapping[str, Any]
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WRONG_IF = {"WorkersReady": False, "Failing": True, "QuotaExceeded": True, "CopiesLost": True, "Drifted": True}
"""With which status a dataset's condition is worth telling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """A job."""

    job: _Json
    paths: list[str]
    done: Tally
    """Loaded or skipped."""
    share: float
    """Of the bar: what is accounted for, or verified while it verifies; 0 to 1."""
    elapsed: str
    left: str
    """Until its end at the present rate; empty if that cannot be told."""
    late: bool
    ended: bool
    link: str
    """Its page on the coordinator's dashboard; empty if that is no web address."""
    receipt: str
    """What the coordinator has signed of it, in a line; empty if that is nothing."""

    @classmethod
    def of(cls, job: _Json, now: datetime) -> JobRow:
        """Describe a job as it is at ``now``."""
        ended = job["state"] in ENDED
        started, finished = _time(job.get("startedAt")), _time(job.get("finishedAt"))
        forecast = job.get("forecast") or {}
        left = None if ended else _seconds_left(job, forecast, started, now)
        return cls(
            job=job,
            paths=source(cast("Job", job)),
            done={
                "files": job["loaded"]["files"] + job["skipped"]["files"],
                "bytes": job["loaded"]["bytes"] + job["skipped"]["bytes"],
            },
            share=_share(job),
            elapsed=duration(((finished or now) - started).total_seconds()) if started else "",
            left=duration(left) if left is not None and left >= 1 else "",
            late=bool(forecast.get("late")),
            ended=ended,
            link=web_address(job.get("url")),
            receipt=describe_receipt(job.get("receipt")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """A dataset."""

    path: str
    name: str = ""
    """By which the coordinator keeps it warm; empty if only loads know of it."""
    version: str = ""
    files: int | None = None
    bytes: int | None = None
    pinned: bool = False
    phase: str = ""
    """Of a dataset that is kept warm: ``NotStarted``, ``DisLoading`` or ``Loaded``."""
    hot: float | None = None
    """The share that is hot, 0 to 1; ``None`` if that is not known."""
    note: str = ""
    """Why it is not known, or what is wrong."""


def dataset_rows(
    kept: Iterable[_Json], listed: Iterable[_Json], warmths: Mapping[str, _Json | PreheatError]
) -> list[DatasetRow]:
    """Return the datasets that the coordinator keeps warm, then those that loads have listed.

    Args:
        kept: answered by ``GET /v1/datasets``.
        listed: answered by ``GET /v1/inventories``, the last listing first.
        warmths: how warm their paths are, or why that is not known.
    """
    newest: dict[str, _Json] = {}
    for inventory in listed:
        newest.setdefault(inventory["path"], inventory)
    rows = [_kept_row(item, newest.get(item["path"])) for item in kept]
    known = {row.path for row in rows}
    return rows + [_listed_row(newest[path], warmths.get(path)) for path in newest if path not in known]


def _kept_row(dataset: _Json, inventory: _Json | None) -> DatasetRow:
    status = dataset.get("status") or {}
    conditions = status.get("conditions") or []
    wrong = [item["message"] or item["type"] for item in conditions if _WRONG_IF.get(item["type"]) is item["status"]]
    listed = status.get("listed") or (inventory or {}).get("listed") or {}
    return DatasetRow(
        path=dataset["path"],
        name=dataset["name"],
        version=status.get("version") or "",
        files=listed.get("files"),
        bytes=listed.get("bytes"),
        pinned=bool(inventory and inventory["pinned"]),
        phase=status.get("phase") or "",
        hot=status.get("hotFraction"),
        note=" ".join(wrong),
    )


def _listed_row(inventory: _Json, warmth: _Json | PreheatError | None) -> DatasetRow:
    if isinstance(warmth, Mapping):
        hot, note = warmth["hotFraction"], warmth["reason"]
    else:
        hot, note = None, str(warmth or "not counted: only the last ones are")
    return DatasetRow(
        path=inventory["path"],
        version=inventory["version"],
        files=inventory["listed"]["files"],
        bytes=inventory["listed"]["bytes"],
        pinned=inventory["pinned"],
        hot=hot,
        note=note,
    )


def duration(seconds: float) -> str:
    """Return a time in its two largest units, e.g. ``2 h 5 min``."""
    whole = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole >= _MINUTE else f"{whole} s"


def percent(share: float | None) -> str:
    """Return a share with one digit behind the point, rounded down: what is missing shows."""
    return "–" if share is None else f"{int(share * 1000 + 1e-9) / 10:.1f} %"


def web_address(url: object) -> str:
    """Return a URL if a browser may be sent there; it comes from the coordinator, and might be a script."""
    text = str(url or "")
    return text if text.startswith(("http://", "https://")) else ""


def describe_receipt(receipt: object) -> str:
    """Return what a receipt says, unchecked: it comes from the coordinator itself. Empty if it cannot be read."""
    try:
        payload = str(receipt).split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        at = datetime.fromtimestamp(claims["iat"], tz=UTC)
        verified, listed = claims["verified"], claims["listed"]
        files = f"verified {verified['files']:,} of {listed['files']:,} files, {human_size(verified['bytes'])}"
    except (ValueError, LookupError, TypeError):
        return ""
    return f"{files}, at {at:%Y-%m-%d %H:%M:%S} UTC"


def _share(job: _Json) -> float:
    listed = job["listed"]
    unit = "bytes" if listed["bytes"] else "files"
    if not listed[unit]:
        return float(job["state"] == "SUCCEEDED")
    if job["state"] == "VERIFYING" and job.get("verified"):
        return float(min(1.0, job["verified"][unit] / listed[unit]))
    return float((listed[unit] - job["remaining"][unit]) / listed[unit])


def _seconds_left(job: _Json, forecast: _Json, started: datetime | None, now: datetime) -> float | None:
    """Return what the coordinator forecasts, or else what the rate so far comes to."""
    if (finish := _time(forecast.get("finishAt"))) is not None:
        return max(0.0, (finish - now).total_seconds())
    share = _share(job)
    if started is None or not job["listingDone"] or job["state"] != "RUNNING" or share <= 0:
        return None
    return (now - started).total_seconds() * (1 - share) / share


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
