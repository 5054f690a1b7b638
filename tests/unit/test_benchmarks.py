"""The parts of ``make bench``: statistics, verdicts, table and chart, and what it measures with."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from preheat.engine import MemoryEngine
from preheat.jobs import JobState
from preheat.paths import UfsPath
from tests.benchmarks import job_service, settings
from tests.benchmarks.chart import position, ratio_chart
from tests.benchmarks.comparisons import COMPARISONS, OURS, Comparison, Part, Row, Sample, Spread, time_spent
from tests.benchmarks.comparisons import compare as compare_on
from tests.benchmarks.data import ObjectSet, content
from tests.benchmarks.delay_proxy import distance
from tests.benchmarks.goals import GOALS, Goal, Measurement, Verdict, judge
from tests.benchmarks.instant_workers import work
from tests.benchmarks.long_job import load
from tests.benchmarks.origin_proxy import OriginProxy
from tests.benchmarks.plan_keys import plan
from tests.benchmarks.record import Circumstances, Record
from tests.benchmarks.report import NOT_MEASURED, Results, document, markdown, notes, table
from tests.benchmarks.synthetic import URI, SyntheticListing

MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "memory_gib": 4.0,
    "kernel": "6.1",
    "python": "3.11",
    "versions": {"s5cmd": "2.3.0"},
}


CIRCUMSTANCES = Circumstances(date="2026-01-01 00:00 UTC", command="make bench", load_before=0.1, load_after=2.0)


def comparison(target: float = 2.0, cpu_target: float | None = None, *, bounded: bool = False) -> Comparison:
    return Comparison(
        part=Part.LOADS,
        work="load",
        title="load 10 < 20",
        unit="files/s",
        peer="s5cmd",
        target=target,
        cpu_target=cpu_target,
        bounded=bounded,
    )


def compare(what: Comparison, samples: list[Sample]) -> Row:
    return compare_on(what, samples, cores=2)


def sample(system: str, seconds: float, cpu: float = 1.0, work: str = "load") -> Sample:
    return Sample(work=work, system=system, amount=10, seconds=seconds, cpu={system: cpu}, others={"origin": 0.5})


def rounds(*pairs: tuple[float, float]) -> list[Sample]:
    return [item for ours, peer in pairs for item in (sample(OURS, ours), sample("s5cmd", peer))]


def verdict(*values: float, target: float = 100, at_most: bool = False) -> Verdict:
    goal = Goal(work="poll", title="poll jobs", unit="reads/s", target=target, at_most=at_most)
    measurements = [Measurement(work="poll", value=value, detail=f"saw {value:g}") for value in values]
    return judge(goal, [Measurement(work="other", value=0), *measurements])


def record(*samples: Sample, part: Part = Part.LOADS, **more: Any) -> Record:
    settings = {"rounds": 3}
    return Record(machine=MACHINE, settings=settings, parts={part: CIRCUMSTANCES}, samples=samples, **more)


def results(*rows: Row, verdicts: tuple[Verdict, ...] = ()) -> Results:
    return Results(
        record=record(checked={"load": 50}), rows=rows, verdicts=verdicts, not_measured=[*NOT_MEASURED, "the rest"]
    )


def test_a_ratio_is_taken_within_each_round():
    row = compare(comparison(), rounds((1, 2), (10, 30), (2, 5)))
    assert row.ratio == Spread(median=2.5, low=2.0, high=3.0)
    assert row.ours == Spread(median=5.0, low=1.0, high=10.0)
    assert row.peer == Spread(median=2.0, low=10 / 30, high=5.0)


def test_other_works_and_other_peers_do_not_count():
    foreign = [sample(OURS, 99, work="list"), sample("boto3", 99)]
    assert compare(comparison(), [*rounds((1, 2)), *foreign]) == compare(comparison(), rounds((1, 2)))


def test_a_round_without_a_peer_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        compare(comparison(), [*rounds((1, 2)), sample(OURS, 1)])


@pytest.mark.parametrize(
    ("target", "cpu_target", "won"), [(2.0, None, True), (2.1, None, False), (2.0, 0.5, True), (2.0, 0.4, False)]
)
def test_a_row_is_won_when_every_target_is_met(target: float, cpu_target: float | None, *, won: bool):
    samples = [sample(OURS, 1, cpu=1), sample("s5cmd", 2, cpu=2)]
    assert compare(comparison(target, cpu_target), samples).won is won


def test_the_reason_names_the_largest_share_first():
    assert time_spent([sample(OURS, 2, cpu=0.25), sample(OURS, 4, cpu=0.25)]) == (
        "3 s; CPU: origin 0.50 s, preheat 0.25 s"
    )


def test_a_lost_row_is_printed_as_lost_with_its_reason():
    lost, won = compare(comparison(3), rounds((1, 2))), compare(comparison(2), rounds((1, 2)))
    console = Console(width=160, record=True)
    console.print(table(results(lost, won)))
    lines = console.export_text().splitlines()
    assert [line.split("│")[-2].strip() for line in lines if "load 10" in line] == ["lost", "won"]
    assert [note for note in notes(results(lost, won)) if note.startswith("lost: ")] == [
        "lost: load 10 < 20 / s5cmd: 1 s; CPU: preheat 1.00 s, origin 0.50 s"
    ]


def test_the_page_has_every_row_and_what_was_not_measured():
    page = markdown(results(compare(comparison(), rounds((1, 2)))))
    assert "| load 10 < 20 | 10 files/s | s5cmd 5 | 2.00× (2.00–2.00) | 1.00× | ≥ 2× | won |" in page
    assert all(what in page for what in (*NOT_MEASURED, "the rest"))


def test_the_bound_is_the_ratio_that_is_left_when_only_the_origin_works():
    row = compare(comparison(9, bounded=True), rounds((1, 2)))
    assert row.bound == 2 / (0.5 / 2)
    assert any(note.endswith("; bound here about 8.0×, with no CPU time of ours") for note in notes(results(row)))


def test_a_peer_without_processes_of_its_own_has_no_cpu_ratio():
    row = compare(comparison(), [sample(OURS, 1), sample("s5cmd", 2, cpu=0)])
    assert (row.cpu_ratio, row.won) == (None, True)
    assert "| 2.00× (2.00–2.00) |  | ≥ 2× | won |" in markdown(results(row))


def test_what_is_not_in_the_record_is_named_with_the_reason():
    juicefs = replace(comparison(), peer="juicefs")
    goal = Goal(work="poll", title="poll jobs", unit="reads/s", target=100)
    kept = record(*rounds((1, 2)), missing={"juicefs": "no FUSE"})
    found = Results.of(kept, [comparison(), juicefs], [goal])
    assert ([row.comparison.peer for row in found.rows], found.verdicts) == (["s5cmd"], [])
    assert found.not_measured[len(NOT_MEASURED) :] == [
        "no FUSE: load 10 < 20 / juicefs",
        "left out of this run: poll jobs",
    ]


def test_a_part_that_is_measured_again_replaces_itself_only(tmp_path: Path):
    load, serve = sample(OURS, 1, work="load-small"), sample(OURS, 1, work="serve-small")
    old = record(
        load, serve, part=Part.SERVING, checked={"serve-small": 5}, measurements=[Measurement(work="a", value=1)]
    )
    file = tmp_path / "results.json"
    file.write_text(json.dumps(document(Results.of(old, [], []))))
    again = replace(serve, seconds=2)
    newer = record(again, part=Part.SERVING, checked={"serve-small": 7})
    found = Record.read(file).updated(newer)
    assert (found.samples, found.checked) == ([load, again], {"serve-small": 7})
    assert found.measurements == [Measurement(work="a", value=1)]
    with pytest.raises(ValueError, match="other amounts"):
        old.check_amounts({"rounds": 4})


def test_the_document_says_who_won():
    (row,) = document(results(compare(comparison(), rounds((1, 2)))))["rows"]
    assert (row["won"], row["ratio"]["median"]) == (True, 2.0)


def test_the_axis_is_logarithmic_and_ends():
    assert position(2) - position(1) == position(1) - position(0.5)
    assert (position(1000), position(0.001)) == (position(16), position(1 / 16))


def test_the_chart_is_svg_with_a_bar_for_each_row():
    rows = [compare(comparison(target), rounds((1, 2))) for target in (1, 3)]
    root = ET.fromstring(ratio_chart(rows))
    space = {"svg": "http://www.w3.org/2000/svg"}
    bars = [rect for rect in root.iterfind("svg:rect", space) if rect.get("fill-opacity")]
    assert [float(bar.get("width", "")) for bar in bars] == [position(2) - position(1)] * 2
    assert len({bar.get("fill") for bar in bars}) == 2


def test_content_follows_from_the_key():
    assert content("a", 3 << 20) == content("a", 3 << 20)
    assert content("a", 100) != content("b", 100)
    assert len(content("a", (1 << 20) + 5)) == (1 << 20) + 5


def test_a_sample_of_keys_is_the_same_each_time():
    objects = ObjectSet(name="small", count=100, size=1)
    assert objects.sample(5) == objects.sample(5)
    assert len(set(objects.sample(1000))) == 100


@pytest.mark.parametrize(("at_most", "won"), [(False, [False, True, True]), (True, [True, True, False])])
def test_a_goal_is_reached_by_the_median(at_most: bool, won: list[bool]):
    medians = (99, 100, 101)
    assert [verdict(1, median, 1000, at_most=at_most).won for median in medians] == won


def test_a_goal_says_what_was_seen_next_to_the_median():
    assert verdict(300, 100, 200).reason == "saw 200"


def test_a_goal_is_a_row_of_the_table_without_a_peer():
    lost, won = verdict(60, 50, 70), verdict(40, 30, 50, at_most=True)
    shown = results(verdicts=(lost, won))
    page = markdown(shown)
    assert "| poll jobs | 60 reads/s |  | (50–70) |  | ≥ 100 reads/s | lost |" in page
    assert "| poll jobs | 40 reads/s |  | (30–50) |  | ≤ 100 reads/s | won |" in page
    assert [note for note in notes(shown) if note.startswith("lost: ")] == ["lost: poll jobs: saw 60"]
    assert [goal["won"] for goal in document(shown)["goals"]] == [False, True]
    console = Console(width=160, record=True)
    console.print(table(shown))
    assert console.export_text().count("poll jobs") == 2


@pytest.mark.parametrize(("amounts", "scale"), [(settings.FULL, job_service.FULL), (settings.QUICK, job_service.QUICK)])
def test_a_run_fills_in_every_title(amounts: settings.Settings, scale: job_service.Scale):
    goals = [scale.titled(goal).title for goal in GOALS]
    rows = [(amounts.titled(comparison).title, comparison.peer) for comparison in COMPARISONS]
    assert len({*goals, *rows}) == len(GOALS) + len(COMPARISONS)
    assert not any("{" in title for title in [*goals, *(title for title, _ in rows)])


def test_a_bench_measures_what_is_in_its_table():
    assert {comparison.part for comparison in COMPARISONS} | {Part.GOALS} == set(Part)


async def test_a_synthetic_listing_goes_on_after_any_key():
    listing = SyntheticListing(2500)
    whole = [item async for page in listing.list(UfsPath.parse(URI)) for item in page]
    rest = [item async for page in listing.list(UfsPath.parse(URI), after=whole[1233].key) for item in page]
    assert [item.key for item in whole] == sorted({item.key for item in whole})
    assert (len(whole), rest) == (2500, whole[1234:])


@pytest.mark.parametrize("replicas", [1, 2])
async def test_everything_that_is_listed_is_planned(replicas: int):
    progress = await plan(2500, replicas=replicas)
    assert (progress.complete, progress.listed.objects, progress.done) == (True, 2500, progress.listed)
    assert sum(share.done.objects for share in progress.shares.values()) == 2500 * replicas


async def test_a_long_job_is_done_by_workers_that_answer_at_once():
    engine = MemoryEngine()
    workers = [asyncio.create_task(work(engine, f"worker-{number}")) for number in range(2)]
    try:
        job = (await load(engine, 2500, workers=2)).job
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    assert (job.state, job.work.done.objects, set(job.work.shares)) == (
        JobState.SUCCEEDED,
        2500,
        {"worker-0", "worker-1"},
    )


class Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def test_the_proxy_passes_everything_and_notes_the_objects_that_are_read():
    with HTTPServer(("127.0.0.1", 0), Origin) as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with OriginProxy(origin.server_port) as proxy:
                for target in ("/b/one/x%20y", "/b?list-type=2&prefix=two/", "/b/two/x", "/b/one/z", "/b/one/z"):
                    with urlopen(proxy.endpoint + target, timeout=10) as answer:
                        assert answer.read() == target.encode()
                assert proxy.reads == 4
                one, two = (proxy.first_read(prefix, since=0.0) for prefix in ("b/one/x y", "b/two/"))
                assert one is not None
                assert two is not None
                assert one < two < (proxy.first_read("b/one/", since=two) or 0)
                assert proxy.first_read("b/three/", since=0.0) is None
        finally:
            origin.shutdown()
            thread.join(10)


ROUND_TRIP = 0.03
CLOCK = 0.004
"""uvloop's clock ticks in milliseconds, so that each passage may be that much shorter."""


class Echo(StreamRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port at which a server that sends back everything is a round trip away."""
    with ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        thread = threading.Thread(target=echo.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with distance(echo.server_address[1], ROUND_TRIP, tmp_path_factory.mktemp("far") / "log") as (port, _):
                yield port
        finally:
            echo.shutdown()
            thread.join(10)


def receive(connection: socket.socket, count: int) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read(count)


def test_a_distant_server_answers_after_two_round_trips_and_then_after_one(far: int):
    waits, started = [], time.monotonic()
    with socket.create_connection(("127.0.0.1", far), 10) as connection:
        for _ in range(3):
            connection.sendall(b"x")
            assert receive(connection, 1) == b"x"
            waits.append(time.monotonic() - started)
            started = time.monotonic()
    assert waits[0] >= 2 * ROUND_TRIP - CLOCK
    assert min(waits) >= ROUND_TRIP - CLOCK


def test_a_distance_neither_changes_bytes_nor_makes_them_wait_for_each_other(far: int):
    pieces = [content(str(number), 50_000) for number in range(200)]
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", far), 10) as connection:
        sending = threading.Thread(target=lambda: [connection.sendall(piece) for piece in pieces])
        sending.start()
        assert receive(connection, 200 * 50_000) == b"".join(pieces)
        sending.join(10)
    assert time.monotonic() - started < len(pieces) * ROUND_TRIP / 2  # if each piece had waited for the one before
