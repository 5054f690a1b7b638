"""Assets that stand for warm datasets."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_preheat.assets import describe_outlets, warm_asset
from airflow_preheat.exceptions import PreheatRequestError

DIGITS = warm_asset("s3://datasets/digits/")
FIRST, SECOND = f"sha256:{1:064x}", f"sha256:{2:064x}"


@dataclass(frozen=True)
class TaskInstance:
    """The part of Airflow's task instance that names a task."""

    run_id: str
    dag_id: str = "nightly"
    task_id: str = "warm"
    map_index: int = -1


@dataclass
class StateStore:
    """What Airflow keeps of one Asset, in memory."""

    values: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


class Airflow:
    """Runs of one task, and their states."""

    def __init__(self) -> None:
        self.store = StateStore()
        self.states: dict[str, str] = {}

    def succeed(self, run: str, version: str | None, partition: str | None, state: str = "success") -> set[str] | None:
        """Let the task of a run end, and return its event's partitions, or ``None`` if there is no event."""
        context: Any = {
            "ti": TaskInstance(run),
            "outlet_events": OutletEventAccessors(),
            "asset_state_store": {DIGITS: self.store},
        }
        other = object()
        left = describe_outlets(context, [DIGITS, other], {"dataset_version": version}, partition)
        assert left[-1] is other
        self.states[run] = state
        if DIGITS not in left:
            return None
        event = context["outlet_events"][DIGITS]
        assert event.extra == {"dataset_version": version}
        return event.partition_keys

    def task_states(self, *, run_ids: list[str], task_ids: list[str], **task: Any) -> dict[str, dict[str, str]]:
        (run,) = run_ids
        assert (task, task_ids) == ({"dag_id": "nightly", "map_index": -1}, ["warm"])
        return {run: {"warm": self.states[run]}} if run in self.states else {}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    made = Airflow()
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(made.task_states))
    return made


@pytest.mark.parametrize("path", ["s3://bucket/a/b/", "s3a://bucket/a/b", "preheat://bucket/a/b"])
def test_a_dataset_has_one_asset_however_it_is_written(path):
    asset = warm_asset(path)

    assert asset == Asset("preheat://bucket/a/b")
    assert asset.uri == "preheat://bucket/a/b"


def test_an_asset_can_have_a_name():
    assert warm_asset("s3://bucket/a", name="digits").name == "digits"


@pytest.mark.parametrize("path", ["bucket/a", "file:///data", "gs://bucket/a"])
def test_a_path_without_an_asset_is_named(path):
    with pytest.raises(ValueError, match=path):
        warm_asset(path)


@pytest.mark.parametrize("uri", ["preheat:///a", "preheat://bucket/a?version=1"])
def test_airflow_refuses_a_uri_that_names_no_dataset(uri):
    with pytest.raises(ValueError, match="Write preheat://BUCKET/PREFIX"):
        Asset(uri=uri)


def test_each_success_is_an_event_without_a_partition_or_of_a_fixed_one(airflow):
    assert [airflow.succeed(run, FIRST, None) for run in ("1", "2")] == [set(), set()]
    assert [airflow.succeed(run, FIRST, "eu") for run in ("3", "4")] == [{"eu"}, {"eu"}]


def test_a_version_is_told_of_once(airflow):
    assert airflow.succeed("1", FIRST, "{version}") == {FIRST}
    assert airflow.succeed("2", FIRST, "{version}") is None
    assert airflow.succeed("3", SECOND, "{version}") == {SECOND}
    assert airflow.succeed("4", FIRST, "{version}") is None
    assert airflow.succeed("5", FIRST, "eu/{version}") == {f"eu/{FIRST}"}


def test_a_task_tells_of_it_again_in_its_next_try_and_when_it_is_cleared(airflow):
    assert [airflow.succeed("1", FIRST, "{version}") for _ in range(3)] == [{FIRST}] * 3


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "running"])
def test_a_task_that_died_before_its_event_keeps_no_other_from_it(airflow, state):
    airflow.succeed("1", FIRST, "{version}", state=state)

    assert airflow.succeed("2", FIRST, "{version}") == {FIRST}
    assert airflow.succeed("3", FIRST, "{version}") is None


def test_runs_that_airflow_has_forgotten_had_succeeded(airflow):
    airflow.succeed("1", FIRST, "{version}")
    airflow.states.clear()

    assert airflow.succeed("2", FIRST, "{version}") is None


def test_what_is_remembered_is_bounded(airflow):
    for number in range(150):
        airflow.succeed(str(number), f"sha256:{number:064x}", "{version}")

    (remembered,) = airflow.store.values.values()
    assert len(remembered) == 100
    assert airflow.succeed("again", f"sha256:{149:064x}", "{version}") is None


def test_a_version_that_nobody_knows_is_no_partition(airflow):
    with pytest.raises(PreheatRequestError, match="an Alluxio has none"):
        airflow.succeed("1", None, "{version}")

    assert airflow.succeed("1", None, "eu") == {"eu"}


def test_openlineage_names_a_warm_dataset_by_its_asset():
    convert = ProvidersManagerTaskRuntime().asset_to_openlineage_converters["preheat"]

    datasets = [convert(warm_asset(path), None) for path in ("s3://datasets/a/b/", "s3://datasets/")]

    assert [(item.namespace, item.name) for item in datasets] == [
        ("preheat://datasets", "a/b"),
        ("preheat://datasets", "/"),
    ]
