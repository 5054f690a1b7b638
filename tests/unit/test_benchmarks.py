"""The pure parts of ``make bench``: statistics, verdicts, table and chart. Nothing is measured here."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.benchmarks.chart import position, ratio_chart
from tests.benchmarks.comparisons import OURS, Comparison, Row, Sample, Spread, compare, time_spent
from tests.benchmarks.data import ObjectSet, content
from tests.benchmarks.report import NOT_MEASURED, Results, document, markdown, notes, table

MACHINE = {
    "command": "make bench",
    "date": "2026-01-01 00:00 UTC",
    "cpu": "a CPU",
    "cores": 2,
    "memory_gib": 4.0,
    "kernel": "6.1",
    "python": "3.11",
    "load_before": 0.1,
    "load_after": 2.0,
    "worker_peak_mib": 200.0,
    "versions": {"s5cmd": "2.3.0"},
}


def comparison(target: float = 2.0, cpu_target: float | None = None) -> Comparison:
    return Comparison(
        work="load", title="load 10 < 20", unit="files/s", peer="s5cmd", target=target, cpu_target=cpu_target
    )


def sample(system: str, seconds: float, cpu: float = 1.0, work: str = "load") -> Sample:
    return Sample(work=work, system=system, amount=10, seconds=seconds, cpu={system: cpu}, others={"origin": 0.5})


def rounds(*pairs: tuple[float, float]) -> list[Sample]:
    return [item for ours, peer in pairs for item in (sample(OURS, ours), sample("s5cmd", peer))]


def results(*rows: Row) -> Results:
    return Results(rows=rows, samples=(), machine=MACHINE, settings={"rounds": 3}, checked={"load": 50})


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
        "3.00 s; CPU: origin 0.50 s, preheat 0.25 s"
    )


def test_a_lost_row_is_printed_as_lost_with_its_reason():
    lost, won = compare(comparison(3), rounds((1, 2))), compare(comparison(2), rounds((1, 2)))
    console = Console(width=160, record=True)
    console.print(table(results(lost, won)))
    lines = console.export_text().splitlines()
    assert [line.split("│")[-2].strip() for line in lines if "load 10" in line] == ["lost", "won"]
    assert [note for note in notes(results(lost, won)) if note.startswith("lost: ")] == [
        "lost: load 10 < 20 / s5cmd: 1.00 s; CPU: preheat 1.00 s, origin 0.50 s"
    ]


def test_the_page_has_every_row_and_what_was_not_measured():
    page = markdown(results(compare(comparison(), rounds((1, 2)))))
    assert "| load 10 < 20 | 10 files/s | s5cmd 5 | 2.00× (2.00–2.00) | 1.00× | ≥ 2× | won |" in page
    assert all(what in page for what in NOT_MEASURED)


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
