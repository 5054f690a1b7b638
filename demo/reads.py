"""Reads the same objects from the origin and through the cache, and takes the time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fsspec
from obstore.fsspec import FsspecStore

from demo.dataset import BUCKET


class WrongBytesError(Exception):
    """The cache served other bytes than the origin has."""


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How long it took to read all objects once."""

    cold_seconds: float
    """From S3 itself, with obstore."""
    warm_seconds: float
    """Through the cache, with ``preheat.fs``."""


def compare(keys: Sequence[str], *, environment: Mapping[str, str], coordinator: str) -> Reads:
    """Read all objects from the origin, then through the cache, with the same fsspec call.

    Args:
        keys: the objects in the demo's bucket.
        environment: the ``AWS_...`` variables of the S3 server.
        coordinator: the coordinator's URL.

    Raises:
        WrongBytesError: they differ.
    """
    paths = [f"{BUCKET}/{key}" for key in keys]
    origin = FsspecStore(
        "s3",
        config={
            "endpoint": environment["AWS_ENDPOINT_URL"],
            "access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "region": environment["AWS_REGION"],
        },
        client_options={"allow_http": True},
    )
    cache = fsspec.filesystem("preheat", coordinator=coordinator)
    cold_seconds, cold = _timed_cat(origin, paths)
    warm_seconds, warm = _timed_cat(cache, paths)
    if wrong := [path for path in paths if cold[path] != warm[path]]:
        raise WrongBytesError(f"{len(wrong)} objects differ, {wrong[0]} for one.")
    return Reads(cold_seconds=cold_seconds, warm_seconds=warm_seconds)


def _timed_cat(filesystem: fsspec.AbstractFileSystem, paths: list[str]) -> tuple[float, dict[str, bytes]]:
    started = time.perf_counter()
    contents = filesystem.cat(paths)
    return time.perf_counter() - started, contents
