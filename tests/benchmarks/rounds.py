"""The order of a run: in every round each work is done by us and by its peers, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from testbed.s3 import SeaweedFS
from tests.benchmarks import loading, reading
from tests.benchmarks.bench import Bench, Settings, running
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import KIB, ROOT, ObjectSet, upload
from tests.benchmarks.metering import peak_memory
from tests.benchmarks.peers import Peers

Task = Callable[[], Sample]
Report = Callable[[str], None]

_CHECKED = 50
_CHECKED_LARGE = 1


class Run:
    """One run of the benchmarks; afterwards its attributes hold what was measured.

    Args:
        settings: how much is measured.
        directory: on the disk that is to be measured; what is written there is removed, the origin's data excepted.
        peers: the peers' programs.
        report: gets a line for each step.
    """

    def __init__(self, settings: Settings, *, directory: Path, peers: Peers, report: Report) -> None:
        self._settings = settings
        self._directory = directory
        self._peers = peers
        self._report = report
        self.samples: list[Sample] = []
        self.checked: Counter[str] = Counter()
        """Objects compared byte by byte with their source, by work."""
        self.worker_peak = 0
        """The most bytes of memory that a worker had resident."""

    def measure(self) -> None:
        """Prepare the origin, and do every round.

        Raises:
            WrongResultError: a system did not do what it was measured at.
        """
        warmup = ObjectSet(name="warm", count=16, size=4 * KIB, root="warmup/")
        with SeaweedFS(self._directory / "origin") as origin:
            count = sum(objects.count for objects in self._settings.sets)
            self._report(f"uploading {count:,} objects below {ROOT}")
            upload(origin, warmup, *self._settings.sets)
            for number in range(self._settings.rounds):
                directory = self._directory / f"round-{number}"
                with running(
                    self._settings, directory=directory, peers=self._peers, origin=origin, warmup=warmup
                ) as bench:
                    self._round(bench, number)

    def _round(self, bench: Bench, number: int) -> None:
        for tasks in self._steps(bench):
            # Every second round in the opposite order, so that nobody is always the first.
            for task in reversed(tasks) if number % 2 else tasks:
                sample = task()
                self.samples.append(sample)
                self._report(f"round {number + 1}: {sample.work} {sample.system} {sample.seconds:.2f} s")
        for objects, count in self._loaded(bench.settings):
            self.checked[f"load-{objects.name}"] += bench.check(objects, count)
        workers = [pid for name, pid in bench.pids.items() if name.startswith("worker-")]
        self.worker_peak = max(self.worker_peak, *map(peak_memory, workers))

    def _steps(self, bench: Bench) -> Iterator[list[Task]]:
        """Yield who does each work; s5cmd's two loads of many files are far apart, for the sake of its ports."""
        settings = bench.settings
        yield _load(bench, settings.large)
        yield _load(bench, settings.small)
        worker = bench.owners([next(settings.large.keys())])[0]
        wanted = reading.servings(bench, worker)
        reading.write_files(bench, wanted)
        for serving in wanted:
            yield [
                partial(reading.serve_with_preheat, bench, serving, worker),
                partial(reading.serve_with_nginx, bench, serving),
            ]
            self.checked[serving.work] += len(serving.pieces)
        yield [partial(reading.read_with_preheat, bench), partial(reading.read_with_s3fs, bench)]
        self.checked["read"] += settings.read_count
        yield [
            partial(loading.list_with_python, bench, OURS),
            partial(loading.list_with_s5cmd, bench),
            partial(loading.list_with_python, bench, "boto3"),
        ]
        yield _load(bench, settings.tiny)

    @staticmethod
    def _loaded(settings: Settings) -> list[tuple[ObjectSet, int]]:
        return [(settings.large, _CHECKED_LARGE), (settings.small, _CHECKED), (settings.tiny, _CHECKED)]


def _load(bench: Bench, objects: ObjectSet) -> list[Task]:
    return [partial(loading.load_with_preheat, bench, objects), partial(loading.load_with_s5cmd, bench, objects)]
