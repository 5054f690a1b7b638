"""Trains a classifier of handwritten digits as soon as they are warm, which their Asset tells.

Every image is read through the cache. The run fails if the dataset is not at the version that was warmed, or
if a read had to go to the origin.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import requests
from airflow.sdk import DAG, task

from airflow_preheat.assets import warm_asset
from airflow_preheat.hooks import PreheatHook
from preheat.versions import DatasetVersion, ObjectInfo

DATASET = "datasets/digits"
DIGITS = warm_asset(f"s3://{DATASET}/")


@task
def warmed_version(*, triggering_asset_events: Mapping[Any, Sequence[Any]]) -> dict[str, Any]:
    """Return what the newest Asset event says of the dataset: its version and the job that warmed it."""
    if DIGITS not in triggering_asset_events:
        raise ValueError(f"no event of {DIGITS.uri} started this run: run nightly_warmup, it starts this DAG.")
    latest = max(triggering_asset_events[DIGITS], key=lambda event: event.timestamp)
    return {key: latest.extra[key] for key in ("job_id", "dataset_version")}


@task
def train(warmed: dict[str, Any]) -> dict[str, Any]:
    """Read all images through the cache, train on one part of them, and score on the other."""
    from sklearn.svm import SVC  # noqa: PLC0415 - it takes a second, which no parsing of the DAG should

    hook = PreheatHook()
    filesystem = fsspec.filesystem("preheat", coordinator=hook.endpoint.url)
    listing = filesystem.find(DATASET, detail=True)
    require_version(listing, warmed["dataset_version"])
    before, started = origin_reads(hook), time.monotonic()
    images = filesystem.cat(sorted(listing))
    seconds, after = time.monotonic() - started, origin_reads(hook)
    model = SVC(gamma=0.001).fit(*samples(images, "train"))
    return {
        "accuracy": round(float(model.score(*samples(images, "test"))), 4),
        "images": len(images),
        "bytes": sum(map(len, images.values())),
        "read_seconds": round(seconds, 3),
        "cache_hits": filesystem.stats.hits,
        "cache_misses": filesystem.stats.misses,
        "origin_reads": after - before,
        **warmed,
    }


@task
def require_warm_reads(report: dict[str, Any]) -> None:
    """Fail if a read missed the cache: then the dataset was not warm, whatever the accuracy."""
    if report["origin_reads"] or report["cache_hits"] < report["images"]:
        raise ValueError(f"training read from the origin: {report}")


def require_version(listing: dict[str, dict[str, Any]], expected: str) -> None:
    """Fail if the dataset's version, a hash over the listing, is not the one that was warmed."""
    version = DatasetVersion()
    version.update(
        ObjectInfo(key=path.partition("/")[2], size=info["size"], etag=info["etag"], last_modified=0)
        for path, info in sorted(listing.items())
    )
    if str(version) != expected:
        raise ValueError(f"{DATASET} is at {version}, but {expected} was warmed: run nightly_warmup again.")


def origin_reads(hook: PreheatHook) -> int:
    """Return how many objects the workers have fetched from the origin for readers, since they started."""
    urls = [worker["url"] for worker in hook.workers() if worker["live"]]
    stats = [requests.get(f"{url}/v1/stats", timeout=10).json() for url in urls]
    return sum(counters["originReads"] - counters["loadReads"] for counters in stats)


def samples(images: dict[str, bytes], part: str) -> tuple[list[Any], list[int]]:
    """Return the pixels and the labels of one part; an image is at ``.../PART/LABEL/NAME.pgm``."""
    chosen = [(path.split("/")[-2], image) for path, image in images.items() if path.split("/")[-3] == part]
    return [pixels(image) for _, image in chosen], [int(label) for label, _ in chosen]


def pixels(image: bytes) -> Any:
    """Return the pixels of a binary PGM image with 8 bits a pixel."""
    import numpy as np  # noqa: PLC0415 - as above

    _magic, _size, _maximum, data = image.split(b"\n", 3)
    return np.frombuffer(data, dtype=np.uint8)


with DAG(
    dag_id="train_on_warm_dataset",
    schedule=[DIGITS],
    max_active_runs=1,
    doc_md=__doc__,
    tags=["preheat"],
):
    require_warm_reads(train(warmed_version()))
