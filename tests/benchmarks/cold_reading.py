"""Reading an object that is not cached: from the origin itself, and through a worker that has to fetch it first.

Both are read by the same client over a connection that is open already, so that what differs is who answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import urlsplit

from preheat.paths import UfsPath
from testbed.s3 import SeaweedFS
from tests.benchmarks.bench import WrongResultError
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import BUCKET, MIB, content
from tests.benchmarks.metering import Meter

ORIGIN = "origin"
THROUGHPUT, FIRST_BYTE = "cold", "cold-first-byte"
_TIMEOUT_SECONDS = 60.0
_PIECE = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to read an object."""

    system: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache: str | None = None
    """What the header ``X-Preheat-Cache`` has to say."""


def at_origin(origin: SeaweedFS, key: str) -> Place:
    """Return where the origin has an object: a URL that is signed in advance, which costs the client nothing."""
    client = origin.client()
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})
    client.close()
    return Place(system=ORIGIN, url=url)


def at_worker(worker_url: str, token: str, key: str) -> Place:
    """Return where a worker serves an object."""
    path = UfsPath.parse(f"s3://{BUCKET}/{key}")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Place(system=OURS, url=f"{worker_url}/v1/data/{path.url_path}", headers=headers, cache="miss")


def read_cold(places: Sequence[Place], key: str, size: int, *, pids: Mapping[str, int]) -> list[Sample]:
    """Read one object at each place, in this order, and return two samples of each: throughput and first byte.

    Args:
        places: where; the object must not be cached at workers.
        key: of the object.
        size: its bytes.
        pids: the processes that take part, by name.

    Raises:
        WrongResultError: other bytes came than the object has, or they were cached.
    """
    expected, buffer = content(key, size), bytearray(size)
    samples = []
    for place in places:
        with Meter(pids) as meter:
            first_byte, seconds = _read(place, memoryview(buffer))
        if buffer != expected:
            raise WrongResultError(f"{place.system} sent other bytes of {key} than its source has.")
        cpu = {name: spent for name, spent in meter.cpu.items() if name != ORIGIN}
        others = {ORIGIN: meter.cpu[ORIGIN]} if ORIGIN in meter.cpu else {}
        samples += [
            Sample(work=THROUGHPUT, system=place.system, amount=size / MIB, seconds=seconds, cpu=cpu, others=others),
            Sample(work=FIRST_BYTE, system=place.system, amount=1, seconds=first_byte, cpu={}),
        ]
        buffer[:] = bytes(size)
    return samples


def _read(place: Place, buffer: memoryview) -> tuple[float, float]:
    """Fill the buffer, and return the seconds until the first byte of the body and until the last."""
    url = urlsplit(place.url)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS)
    connection.connect()
    try:
        started = time.perf_counter()
        connection.request("GET", f"{url.path}?{url.query}".rstrip("?"), headers=dict(place.headers))
        with connection.getresponse() as response:
            if response.status != 200 or response.getheader("X-Preheat-Cache") != place.cache:
                raise WrongResultError(f"{place.system} answered {response.status}, or had it cached.")
            received = response.readinto(buffer[:1])
            first_byte = time.perf_counter() - started
            while count := response.readinto(buffer[received : received + _PIECE]):
                received += count
        return first_byte, time.perf_counter() - started
    finally:
        connection.close()
