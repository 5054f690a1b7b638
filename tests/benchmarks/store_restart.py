"""How long a worker's page store takes to open with many cached objects, in a process of its own, and its memory.

Usage: ``python -m tests.benchmarks.store_restart DIRECTORY [OBJECTS]``; the directory is filled first if it is empty.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from preheat.store import DiskStore

_CAPACITY = 64 << 30
_OBJECT = bytes(100)


def fill(directory: Path, objects: int) -> None:
    """Store many tiny objects."""
    store = DiskStore(directory, capacity=_CAPACITY)
    for number in range(objects):
        path = f"s3://training-data/imagenet/train/shard-{number % 1000:05d}/image-{number:08d}.jpg"
        with store.writer(path, etag=f"{number:032x}", size=len(_OBJECT), last_modified=1.0, job_id="load") as writer:
            writer.append(_OBJECT)
            writer.commit()
    store.close()


def measure(directory: Path) -> dict[str, float]:
    """Open the store, look objects up, and return seconds and megabytes."""
    before = time.perf_counter()
    store = DiskStore(directory, capacity=_CAPACITY)
    opened = time.perf_counter() - before
    paths = [item.path for _, item in zip(range(10_000), store.scan(), strict=False)]
    before = time.perf_counter()
    for path in paths:
        store.lookup(path)
    cold = (time.perf_counter() - before) / len(paths)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    objects = store.usage().objects
    store.close()
    return {"objects": objects, "open_seconds": opened, "cold_lookup_us": cold * 1e6, "peak_mb": memory}


def main(directory: Path, objects: int = 1_000_000) -> None:
    """Fill the directory if need be, and measure in a new process."""
    if not (directory / "index.sqlite").exists():
        fill(directory, objects)
    program = f"from tests.benchmarks.store_restart import *; print(measure(Path({str(directory)!r})))"
    subprocess.run([sys.executable, "-c", program], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
