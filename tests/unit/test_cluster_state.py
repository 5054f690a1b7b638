"""Knowing a running cluster again, and deciding on restarts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from preheat.cluster import ClusterFiles, ClusterState, PartState, read_state
from preheat.cluster._process import ProcessIdentity, parse_start_time, stop_gracefully
from preheat.cluster._restarts import RestartPolicy, Restarts
from preheat.cluster._state import airflow_connection, hold_lock, write_state
from preheat.cluster._supervisor import describe_exit, last_lines
from preheat.errors import Conflict, PreheatError

STAT = "812 (a (b) c) {state} 1 812 812 0 -1 4194304 90 0 0 0 1 2 0 0 20 0 1 0 7654321 10000 200 18446744073709551615"


def me() -> ProcessIdentity:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    return identity


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    part = PartState(
        name="worker-0",
        url="http://127.0.0.1:28080",
        process=me(),
        restarts=0,
        given_up=False,
        log=str(tmp_path / "logs" / "worker-0.log"),
    )
    return ClusterState(
        supervisor=me(),
        ready=True,
        url="http://127.0.0.1:19999",
        parts=(replace(part, name="coordinator"), part),
        data_dir=str(tmp_path),
        log_dir=str(tmp_path / "logs"),
        airflow_connection=airflow_connection("http://127.0.0.1:19999"),
    )


class TestIdentity:
    def test_a_name_with_parentheses_and_spaces_is_skipped(self):
        assert parse_start_time(STAT.format(state="S")) == 7654321

    @pytest.mark.parametrize("ended", ["Z", "X"])
    def test_a_zombie_does_not_run(self, ended: str):
        assert parse_start_time(STAT.format(state=ended)) is None

    def test_the_same_pid_with_another_start_time_is_another_process(self):
        assert me().alive
        assert not replace(me(), start_time=me().start_time - 1).alive

    def test_another_process_with_the_pid_is_not_signalled(self):
        """It would end this test run."""
        assert stop_gracefully(replace(me(), start_time=1), seconds=1) is False


class TestStateFile:
    def test_it_comes_back_as_it_was_written(self, tmp_path: Path, state: ClusterState):
        write_state(tmp_path / "cluster.json", state)
        assert read_state(tmp_path / "cluster.json") == state
        assert [each.name for each in tmp_path.iterdir()] == ["cluster.json"]

    def test_without_a_file_nothing_runs(self, tmp_path: Path):
        assert read_state(tmp_path / "cluster.json") is None

    def test_a_file_that_a_dead_supervisor_left_counts_as_nothing(self, tmp_path: Path, state: ClusterState):
        write_state(tmp_path / "cluster.json", replace(state, supervisor=replace(me(), start_time=1)))
        assert read_state(tmp_path / "cluster.json") is None

    def test_a_foreign_file_is_named(self, tmp_path: Path):
        (tmp_path / "cluster.json").write_text("{}")
        with pytest.raises(PreheatError, match=r"cluster\.json cannot be read"):
            read_state(tmp_path / "cluster.json")

    def test_workers_are_the_parts_with_a_worker_id(self, state: ClusterState):
        assert [part.name for part in state.workers] == ["worker-0"]

    def test_healthy_means_that_every_part_lives(self, state: ClusterState):
        dead = replace(state.parts[1], process=None)
        assert state.healthy
        assert not replace(state, parts=(state.parts[0], dead)).healthy
        assert not replace(state, ready=False).healthy

    def test_the_airflow_connection_is_a_uri_of_type_preheat(self, state: ClusterState):
        assert state.airflow_connection == "AIRFLOW_CONN_PREHEAT_DEFAULT=preheat://127.0.0.1:19999"


class TestLock:
    def test_a_second_holder_is_refused_and_told_who_holds_it(self, tmp_path: Path):
        files = ClusterFiles(tmp_path)
        with hold_lock(files), pytest.raises(Conflict, match=f"pid {os.getpid()}"), hold_lock(files):
            pytest.fail("held twice")

    def test_it_can_be_held_again_afterwards(self, tmp_path: Path):
        files = ClusterFiles(tmp_path)
        for _ in range(2):
            with hold_lock(files):
                assert files.lock.read_text() == f"{os.getpid()}\n"


class TestRestarts:
    POLICY = RestartPolicy(first_delay=1, max_delay=5, quick_seconds=10, max_in_a_row=5)

    def delays(self, *lives: float) -> list[float | None]:
        history, delays = Restarts(), []
        for lived in lives:
            history = history.after_death(lived_seconds=lived, policy=self.POLICY)
            delays.append(history.delay(self.POLICY))
        return delays

    def test_quick_deaths_double_the_delay_up_to_a_limit_and_then_end_the_attempts(self):
        assert self.delays(0, 0, 0, 0, 0) == [1, 2, 4, 5, None]

    def test_a_good_start_begins_anew(self):
        assert self.delays(0, 0, 60, 0) == [1, 2, 1, 2]

    def test_all_deaths_are_counted(self):
        history = Restarts()
        for lived in (0, 60, 0):
            history = history.after_death(lived_seconds=lived, policy=self.POLICY)
        assert history.total == 3


class TestWords:
    def test_an_exit_and_a_signal(self):
        assert describe_exit(3) == "exited with 3"
        assert describe_exit(-9) == "was killed by SIGKILL"

    def test_the_end_of_a_log(self, tmp_path: Path):
        log = tmp_path / "a.log"
        log.write_text("one\ntwo\nthree\n")
        assert last_lines(log, 2) == ["two", "three"]
        assert last_lines(tmp_path / "none.log") == []
