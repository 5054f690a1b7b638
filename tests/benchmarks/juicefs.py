"""``juicefs warmup``: the same objects as files of a JuiceFS volume, which keeps its blocks on the same S3 server."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from testbed.ports import free_port
from testbed.processes import ChildProcess
from testbed.s3 import SeaweedFS
from tests.benchmarks.comparisons import Sample
from tests.benchmarks.data import BUCKET, ObjectSet, content
from tests.benchmarks.loading import amount_of
from tests.benchmarks.metering import Meter, session_pids
from tests.benchmarks.peers import PeerError, run

_WRITERS = 32
_THREADS = 32
_WRITTEN_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Volume:
    """A volume that is written once, and mounted for each load with an empty cache.

    Args:
        directory: for metadata, mount point, caches and log.
        origin: keeps the blocks, below a prefix of their own in the benchmarks' bucket.
    """

    def __init__(self, directory: Path, origin: SeaweedFS) -> None:
        self._directory = directory.resolve()
        self._origin = origin
        self._meta = f"sqlite3://{self._directory}/meta.db"
        self._root = self._directory / "mount"

    def write(self, *sets: ObjectSet) -> None:
        """Make the volume with the objects of all sets.

        Raises:
            PeerError: JuiceFS or FUSE does not work here.
        """
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise PeerError("/dev/fuse cannot be opened here")
        self._root.mkdir(parents=True)
        origin = self._origin
        keys = {"ACCESS_KEY": origin.access_key, "SECRET_KEY": origin.secret_key}
        bucket = f"--bucket={origin.endpoint}/{BUCKET}"
        run([*_JUICEFS, "format", "--storage=s3", bucket, "--trash-days=0", self._meta, "juicefs"], env=keys)
        with self._mounted("first"), ThreadPoolExecutor(_WRITERS) as pool:
            for objects in sets:
                self._path(objects).mkdir(parents=True)
                list(pool.map(lambda key, size=objects.size: self._write(key, size), objects.keys()))

    def warm_up(self, objects: ObjectSet) -> Sample:
        """Bring a set into an empty cache.

        Raises:
            PeerError: not all of it came, or other bytes did.
        """
        with self._mounted("cache") as mount:
            os.sync()
            pids = {"origin": self._origin.process.pid}
            pids |= {f"juicefs mount {pid}": pid for pid in session_pids(mount.pid)}
            with Meter(pids) as meter:
                run([*_JUICEFS, "warmup", "-p", str(_THREADS), self._path(objects)])
            self._check(objects)
        origin = meter.cpu.pop("origin")
        return Sample(
            work=f"load-{objects.name}",
            system="juicefs",
            amount=amount_of(objects),
            seconds=meter.seconds,
            cpu={"juicefs mount": sum(meter.cpu.values()), "juicefs warmup": meter.children},
            others={"origin": origin},
        )

    @contextmanager
    def _mounted(self, cache: str) -> Iterator[ChildProcess]:
        """Mount with an empty cache, which is removed afterwards."""
        directory = self._directory / cache
        command = [
            *(*_JUICEFS, "mount", "--no-syslog", "--no-usage-report", "--no-bgjob", "--backup-meta=0"),
            *(f"--cache-dir={directory}", "--free-space-ratio=0.01", f"--metrics=127.0.0.1:{free_port()}"),
            *(self._meta, self._root),
        ]
        try:
            with ChildProcess(command, log=self._directory / "mount.log", name="juicefs mount") as mount:
                mount.wait_ready(self._root.is_mount)
                yield mount
        finally:
            shutil.rmtree(directory, ignore_errors=True)  # it may not even have been made

    def _path(self, objects: ObjectSet) -> Path:
        return self._root / objects.prefix

    def _write(self, key: str, size: int) -> None:
        (self._root / key).write_bytes(content(key, size))

    def _check(self, objects: ObjectSet) -> None:
        """Wait until the cache's files are written, and compare some of them through the mount."""
        deadline = time.monotonic() + _WRITTEN_SECONDS
        while _size(self._directory / "cache") < objects.count * objects.size:
            if time.monotonic() > deadline:
                raise PeerError(f"juicefs warmup did not bring all of {objects.prefix} into its cache.")
            time.sleep(_POLL_SECONDS)
        for key in objects.checked:
            if (self._root / key).read_bytes() != content(key, objects.size):
                raise PeerError(f"juicefs has other bytes of {key} than its source.")


_JUICEFS: tuple[str | Path, ...] = (Path(sys.executable).with_name("juicefs"), "--no-agent")


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
