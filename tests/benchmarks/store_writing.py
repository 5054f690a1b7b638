"""Writing to the page store, with checksums, records and rows, beside ``os.write`` of the same bytes to the same disk.

A plain write makes a file for each object, as programs that copy do, or one for all, as a pack is. All take turns,
because the machine's speed changes from one second to the next.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from preheat.store import DiskStore, PageStore
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import KIB, MIB, ObjectSet

FILES, ONE_FILE = "files", "one file"
SETS = (ObjectSet(name="small", count=2000, size=100 * KIB), ObjectSet(name="large", count=4, size=64 * MIB))
_CHUNK = 128 * KIB
"""Bytes of one append, about what a socket gives at once."""
_PLAIN_STEP = 64 * KIB
"""Bytes of one plain write: larger ones were slower, because the page cache takes its memory from elsewhere then."""
_FLUSH_EVERY = 500
"""Objects of a batch, after which a worker flushes."""


def write(directory: Path, objects: ObjectSet, *, rounds: int) -> Iterator[Sample]:
    """Write the objects in each way, in turns, and yield what it took; nothing is left behind."""
    data, place = os.urandom(objects.size), directory / "written"
    works: dict[str, Callable[[], None]] = {
        OURS: lambda: _write_store(place, data, objects.count),
        FILES: lambda: _write_plain(place, data, objects.count, one_file=False),
        ONE_FILE: lambda: _write_plain(place, data, objects.count, one_file=True),
    }
    for _ in range(rounds):
        for system, work in works.items():
            seconds, cpu = _timed(work)
            shutil.rmtree(place)
            mib = objects.size * objects.count / MIB
            yield Sample(work=f"write-{objects.name}", system=system, amount=mib, seconds=seconds, cpu={system: cpu})


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _write_store(directory: Path, data: bytes, count: int) -> None:
    store = DiskStore(directory, capacity=64 << 30)
    for number in range(count):
        _put(store, f"s3://bucket/prefix/object-{number:08d}", data)
        if number % _FLUSH_EVERY == 0:
            store.flush()
    store.close()


def _put(store: PageStore, path: str, data: bytes) -> None:
    view = memoryview(data)
    with store.writer(path, etag=f"{0:032x}", size=len(data), last_modified=1.0, job_id="job") as writer:
        for start in range(0, len(data), _CHUNK):
            writer.append(view[start : start + _CHUNK])
        writer.commit()


def _write_plain(directory: Path, data: bytes, count: int, *, one_file: bool) -> None:
    directory.mkdir(parents=True)
    view = memoryview(data)
    for number in range(1 if one_file else count):
        descriptor = os.open(directory / str(number), os.O_WRONLY | os.O_CREAT, 0o644)
        for _ in range(count if one_file else 1):
            for start in range(0, len(data), _PLAIN_STEP):
                os.write(descriptor, view[start : start + _PLAIN_STEP])
        os.close(descriptor)
