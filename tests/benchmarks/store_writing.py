"""Writing to the page store, with checksums, records and rows, against ``os.write`` of the same bytes to the same disk.

Usage: ``python -m tests.benchmarks.store_writing DIRECTORY``. Rounds of both take turns, because the machine's speed
changes from one second to the next.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preheat.store import DiskStore, PageStore

_CHUNK = 128 << 10
"""Bytes of one append, about what a socket gives at once."""
_FLUSH_EVERY = 500
"""Objects of a batch, after which a worker flushes."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Medians of all rounds."""

    size: int
    one_file: bool
    """Whether the plain writes went into one file."""
    store_mib: float
    """MiB per second into the page store."""
    plain_mib: float
    """MiB per second with ``os.write`` into a file per object, or into one file for all."""
    store_cpu_us: float
    """CPU time per object."""
    plain_cpu_us: float

    @property
    def ratio(self) -> float:
        """Of the rates; 1 is as fast as a plain write."""
        return self.store_mib / self.plain_mib


def compare(directory: Path, *, size: int, count: int, one_file: bool = False, rounds: int = 5) -> Rates:
    """Write objects of one size both ways, in turns."""
    data = os.urandom(size)
    store, plain = directory / "store", directory / "plain"
    timed: dict[str, list[tuple[float, float]]] = {"store": [], "plain": []}
    for _ in range(rounds):
        timed["store"].append(_timed(lambda: _write_store(store, data, count)))
        shutil.rmtree(store)
        timed["plain"].append(_timed(lambda: _write_plain(plain, data, count, one_file=one_file)))
        shutil.rmtree(plain)
    wall = {kind: statistics.median(seconds for seconds, _ in runs) for kind, runs in timed.items()}
    cpu = {kind: statistics.median(seconds for _, seconds in runs) for kind, runs in timed.items()}
    mib = size * count / (1 << 20)
    return Rates(
        size=size,
        one_file=one_file,
        store_mib=mib / wall["store"],
        plain_mib=mib / wall["plain"],
        store_cpu_us=cpu["store"] / count * 1e6,
        plain_cpu_us=cpu["plain"] / count * 1e6,
    )


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
            for start in range(0, len(data), _CHUNK):
                os.write(descriptor, view[start : start + _CHUNK])
        os.close(descriptor)


def main(directory: Path) -> None:
    """Print both rates of each size; small objects also against one file for all, which is what a pack is."""
    for size, count, one_file in ((100 << 10, 2000, False), (100 << 10, 2000, True), (64 << 20, 6, False)):
        rates = compare(directory, size=size, count=count, one_file=one_file)
        sys.stdout.write(
            f"{size >> 10:6d} KiB: store {rates.store_mib:6.0f} MiB/s, {'one file' if one_file else 'files'} "
            f"{rates.plain_mib:6.0f} MiB/s, ratio {rates.ratio:.2f}; "
            f"CPU per object {rates.store_cpu_us:.0f} and {rates.plain_cpu_us:.0f} us\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
