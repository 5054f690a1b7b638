"""What operators tell OpenLineage of their jobs; ``tests/e2e`` looks at the events that Airflow sends."""

from typing import Any

import pytest

from airflow_preheat import operators
from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import CopyOperator, FreeOperator, PreloadOperator

VERSION = f"sha256:{1:064x}"
ORIGIN, CACHED = ("s3://datasets", "digits"), ("preheat://datasets", "digits")


def summary(**changes: Any) -> dict[str, Any]:
    counts = {"files": 10, "bytes": 1000, "loaded": 9, "skipped": 1, "failed": 0}
    return {
        "job_id": "job-1",
        "url": "u",
        "paths": [],
        **counts,
        "hot_fraction": 1.0,
        "dataset_version": VERSION,
    } | changes


def names(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(dataset.namespace, dataset.name) for dataset in datasets]


@pytest.mark.parametrize(
    ("operator", "source", "target"),
    [
        ("PreloadOperator", ORIGIN, CACHED),
        ("PersistOperator", CACHED, ORIGIN),
        ("FreeOperator", CACHED, CACHED),
        ("RebalanceOperator", CACHED, CACHED),
    ],
)
def test_data_goes_from_the_under_store_to_the_cache_or_back(operator: str, source: object, target: object) -> None:
    task = getattr(operators, operator)(task_id="task", path="s3a://datasets/digits/")

    lineage = task.get_openlineage_facets_on_complete(None)

    assert (names(lineage.inputs), names(lineage.outputs)) == ([source], [target])


def test_a_copy_goes_from_one_under_store_to_another() -> None:
    task = CopyOperator(task_id="copy", path="file:///data/digits/", destination="s3://archive/")

    lineage = task.get_openlineage_facets_on_complete(None)

    assert (names(lineage.inputs), names(lineage.outputs)) == ([("file", "/data/digits")], [("s3://archive", "/")])


def test_a_success_has_its_version_and_its_size() -> None:
    task = PreloadOperator(task_id="warm", path="s3://datasets/digits/")
    task.summary = summary(receipt="a.b.c")  # type: ignore[assignment]

    lineage = task.get_openlineage_facets_on_complete(None)

    (read,), (written,) = lineage.inputs, lineage.outputs
    assert read.facets["version"].datasetVersion == written.facets["version"].datasetVersion == VERSION
    statistics = written.outputFacets["outputStatistics"]
    assert (statistics.fileCount, statistics.size) == (10, 1000)
    job = lineage.run_facets["preheat_job"]
    assert (job.jobId, job.jobType, job.paths, job.loaded) == ("job-1", "load", ["s3://datasets/digits/"], 9)
    assert job.receipt == "a.b.c"


def test_a_failure_has_neither_and_tells_how_far_the_job_got() -> None:
    task = PreloadOperator(task_id="warm", path="s3://datasets/digits/")
    task.summary = summary(failed=3, hot_fraction=0.7)  # type: ignore[assignment]

    lineage = task.get_openlineage_facets_on_failure(None)

    assert names(lineage.outputs) == [CACHED]
    assert lineage.inputs[0].facets == lineage.outputs[0].facets == lineage.outputs[0].outputFacets == {}
    job = lineage.run_facets["preheat_job"]
    assert (job.failed, job.hotFraction) == (3, 0.7)


def test_several_paths_share_no_version() -> None:
    task = PreloadOperator(task_id="warm", path=["s3://datasets/digits/", "s3://datasets/shards/"])
    task.summary = summary()  # type: ignore[assignment]

    lineage = task.get_openlineage_facets_on_complete(None)

    assert names(lineage.outputs) == [CACHED, ("preheat://datasets", "shards")]
    assert [dataset.facets for dataset in (*lineage.inputs, *lineage.outputs)] == [{}] * 4
    assert lineage.run_facets["preheat_job"].datasetVersion == VERSION


def test_of_an_index_file_the_outlets_are_written() -> None:
    outlets = [warm_asset("s3://datasets/digits/")]
    task = PreloadOperator(task_id="warm", index="s3://datasets/order.txt", outlets=outlets)

    lineage = task.get_openlineage_facets_on_complete(None)

    assert (names(lineage.inputs), names(lineage.outputs)) == ([("s3://datasets", "order.txt")], [CACHED])
    assert lineage.run_facets["preheat_job"].paths == ["s3://datasets/order.txt"]


def test_what_is_freed_is_dropped() -> None:
    lineage = FreeOperator(task_id="free", path="s3://datasets/digits/").get_openlineage_facets_on_complete(None)

    assert lineage.outputs[0].facets["lifecycleStateChange"].lifecycleStateChange.value == "DROP"
