"""The order of a run: in every round each work is done by us and by its peers, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from preheat.placement import Member
from testbed.processes import StartupError
from testbed.s3 import SeaweedFS
from tests.benchmarks import batches, loading, reading
from tests.benchmarks.bench import Bench, Origin, running
from tests.benchmarks.cold_reading import at_origin, at_worker, read_cold
from tests.benchmarks.comparisons import OURS, Part, Sample
from tests.benchmarks.data import KIB, ROOT, ObjectSet, upload
from tests.benchmarks.delay_proxy import distance
from tests.benchmarks.juicefs import Volume
from tests.benchmarks.metering import Journal, peak_memory
from tests.benchmarks.peers import PeerError, Peers
from tests.benchmarks.settings import Settings

Task = Callable[[], Sequence[Sample]]

_WITH_ORIGIN = {Part.LOADS, Part.DISTANT, Part.SERVING}
_WARMUP = ObjectSet(name="warm", count=16, size=4 * KIB, root="warmup/")


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One work, to be done by each system."""

    work: str
    tasks: Sequence[Task]
    times: int = 1
    before_again: Callable[[], None] = _nothing
    """What is to be done before all do it once more."""


class Run:
    """One run of the benchmarks; afterwards its attributes hold what was measured.

    Args:
        settings: how much is measured.
        parts: what is measured.
        directory: on the disk that is to be measured; what is written there is removed, the origin's data excepted.
        peers: the peers' programs.
        journal: gets a line for each step.
    """

    def __init__(
        self, settings: Settings, *, parts: Collection[Part], directory: Path, peers: Peers, journal: Journal
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._directory = directory
        self._peers = peers
        self._journal = journal
        self.samples: list[Sample] = []
        self.checked: Counter[str] = Counter()
        """Objects compared byte by byte with their source, by work."""
        self.missing: dict[str, str] = {}
        """Why a peer was not measured, by its name."""
        self.worker_peak = 0
        """The most bytes of memory that a worker had resident."""

    def measure(self) -> None:
        """Prepare the origin, and do every round.

        Raises:
            WrongResultError: a system did not do what it was measured at.
        """
        if not _WITH_ORIGIN.intersection(self._parts):
            return
        with SeaweedFS(self._directory / "origin") as server:
            self._upload(server)
            wanted = Part.LOADS in self._parts and self._settings.juicefs
            volume = self._write_volume(server) if wanted else None
            self._do_rounds(server, volume)

    def _do_rounds(self, server: SeaweedFS, volume: Volume | None) -> None:
        limit, near_seconds = self._settings.seconds, 0.0
        for number in range(self._settings.rounds):
            started = self._journal.seconds
            if number and limit is not None and started + near_seconds > limit:
                self._journal.note(f"no time for round {number + 1}")
                break
            if {Part.LOADS, Part.SERVING}.intersection(self._parts):
                with self._running(Origin.near(server), f"near-{number}") as bench:
                    self._do(self._near_steps(bench, volume), number)
            near_seconds = self._journal.seconds - started
            if Part.DISTANT in self._parts and number < self._settings.distant_rounds:
                self._do_distant(server, number)

    def _do_distant(self, server: SeaweedFS, number: int) -> None:
        log = self._directory / f"delay-proxy-{number}.log"
        with (
            distance(server.port, self._settings.round_trip, log) as (port, proxy),
            self._running(Origin.distant(server, port, proxy), f"distant-{number}") as bench,
        ):
            self._do(self._distant_steps(bench), number)

    def _upload(self, server: SeaweedFS) -> None:
        count = sum(objects.count for objects in self._settings.sets)
        self._journal.note(f"uploading {count:,} objects below {ROOT}")
        with self._journal.spending("upload"):
            upload(server, _WARMUP, self._settings.cold, *self._settings.sets)

    def _write_volume(self, server: SeaweedFS) -> Volume | None:
        self._journal.note("writing a volume for juicefs warmup")
        volume = Volume(self._directory / "juicefs", server)
        try:
            with self._journal.spending("juicefs volume"):
                volume.write(self._settings.large, self._settings.small)
        except (PeerError, StartupError) as error:
            self.missing["juicefs"] = " ".join(str(error).split())
            return None
        return volume

    @contextmanager
    def _running(self, origin: Origin, name: str) -> Iterator[Bench]:
        directory = self._directory / name
        with ExitStack() as stack:
            with self._journal.spending("clusters"):
                context = running(self._settings, directory=directory, peers=self._peers, origin=origin, warmup=_WARMUP)
                bench = stack.enter_context(context)
            yield bench
            workers = [pid for name, pid in bench.pids.items() if name.startswith("worker-")]
            self.worker_peak = max(self.worker_peak, *map(peak_memory, workers))
            with self._journal.spending("clusters"):
                stack.close()

    def _do(self, steps: Iterator[Step], number: int) -> None:
        for step in steps:
            for time in range(number, number + step.times):
                if time > number:
                    step.before_again()
                # Every second time in the opposite order, so that nobody is always the first.
                for task in reversed(step.tasks) if time % 2 else step.tasks:
                    with self._journal.spending(step.work):
                        samples = task()
                    self.samples += samples
                    for sample in samples:
                        self._journal.note(f"round {number + 1}: {sample.work} {sample.system} {sample.seconds:.3g} s")

    def _check(self, bench: Bench) -> None:
        with self._journal.spending("comparing bytes"):
            for objects in self._settings.loaded:
                self.checked[f"{bench.origin.work}-{objects.name}"] += bench.check(objects)

    def _near_steps(self, bench: Bench, volume: Volume | None) -> Iterator[Step]:
        """Yield who does each work; s5cmd's two loads of many files are far apart, for the sake of its ports."""
        large, small, tiny = self._settings.loaded
        loads = Part.LOADS in self._parts
        if loads:
            yield _load(bench, large, volume=volume, times=self._settings.large_loads)
            yield _load(bench, small, volume=volume)
            yield _listing(bench)
        else:
            with self._journal.spending("loading what is served"):
                for objects in (large, small, tiny):
                    bench.load(objects)
        worker = bench.owners([next(large.keys())])[0]
        serving = Part.SERVING in self._parts
        if serving:
            yield from self._serving_steps(bench, worker)
            yield from self._cold_steps(bench)
        if loads:
            yield _load(bench, tiny)
            self._check(bench)
        if serving:
            yield self._batches(bench, worker)

    def _serving_steps(self, bench: Bench, worker: Member) -> Iterator[Step]:
        wanted = reading.servings(bench, worker)
        reading.write_files(bench, wanted)
        for serving in wanted:
            ours = _one(reading.serve_with_preheat, bench, serving, worker)
            yield Step(work=serving.work, tasks=[ours, _one(reading.serve_with_nginx, bench, serving)])
            self.checked[serving.work] += len(serving.pieces)
        yield Step(work="read", tasks=[_one(reading.read_with_preheat, bench), _one(reading.read_with_s3fs, bench)])
        self.checked["read"] += self._settings.read_count

    def _cold_steps(self, bench: Bench) -> Iterator[Step]:
        cold = self._settings.cold
        keys = list(cold.keys())
        for number, (key, worker) in enumerate(zip(keys, bench.owners(keys), strict=True)):
            ours = partial(
                read_cold,
                [at_worker(worker.url, bench.token, key)],
                key,
                cold.size,
                pids=bench.pids | bench.origin.pids,
            )
            direct = partial(read_cold, [at_origin(bench.origin.server, key)], key, cold.size, pids=bench.origin.pids)
            yield Step(work="cold", tasks=[direct, ours] if number % 2 else [ours, direct])
        self.checked["cold"] += cold.count

    def _batches(self, bench: Bench, worker: Member) -> Step:
        keys = batches.batch_keys(bench, worker)
        self.checked[batches.WORK] += len(keys)
        ours = _one(batches.read_with_preheat, bench, keys, worker)
        return Step(work=batches.WORK, tasks=[ours, _one(batches.read_with_nginx, bench, keys)])

    def _distant_steps(self, bench: Bench) -> Iterator[Step]:
        for objects in self._settings.loaded:
            yield _load(bench, objects)
        self._check(bench)


def _one(do: Callable[..., Sample], *arguments: object) -> Task:
    return lambda: [do(*arguments)]


def _load(bench: Bench, objects: ObjectSet, *, volume: Volume | None = None, times: int = 1) -> Step:
    tasks = [_one(loading.load_with_preheat, bench, objects), _one(loading.load_with_s5cmd, bench, objects)]
    if volume:
        tasks.append(_one(volume.warm_up, objects))
    return Step(
        work=f"{bench.origin.work}-{objects.name}", tasks=tasks, times=times, before_again=partial(bench.free, objects)
    )


def _listing(bench: Bench) -> Step:
    return Step(
        work="list",
        tasks=[
            _one(loading.list_with_python, bench, OURS),
            _one(loading.list_with_s5cmd, bench),
            _one(loading.list_with_python, bench, "boto3"),
        ],
    )
