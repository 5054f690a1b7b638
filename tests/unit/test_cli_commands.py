"""The commands against a real HTTP server that answers as a coordinator does."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from preheat.errors import BucketNotFound, JobNotFound
from tests.unit.conftest import StandIn

CONTRACT = json.loads((Path(__file__).parent.parent / "contract" / "job.json").read_text())
JOB_ID = CONTRACT["id"]
PATH = "s3://datasets/digits/"
ONE_JOB = f"/v1/jobs/{JOB_ID}"
PROGRESS = "/api/v1/master/progress_job/load"
STOP = "/api/v1/master/stop_job/load"


class TestJobLoad:
    def test_submit_prints_alluxios_sentence(self, server: StandIn, run):
        server.reply("POST", "/v1/jobs", CONTRACT, status=201)
        ended = run("job", "load", "--path", PATH, "--submit")
        assert ended.code == 0
        assert ended.out == f"Load '{PATH}' is successfully submitted. JobId: {JOB_ID}\n"

    def test_submit_sends_every_option(self, server: StandIn, run):
        server.reply("POST", "/v1/jobs", CONTRACT, status=201)
        flags = "--replicas 2 --verify --no-skip-if-exists --bandwidth 1MiB/s --batch-size 7 --file-filter-regx .*png"
        flags += " --metadata-only --partial-listing --priority HIGH --deadline 2100-01-31T06:00:00+01:00"
        run("job", "load", PATH, "--submit", *flags.split())
        assert server.asked[0][2] == {
            "type": "load",
            "paths": [PATH],
            "options": {
                "replicas": 2,
                "verify": True,
                "skipIfExists": False,
                "bandwidth": 1 << 20,
                "batchSize": 7,
                "fileFilterRegex": ".*png",
                "loadMetadataOnly": True,
                "priority": "high",
                "deadline": "2100-01-31T05:00:00+00:00",
            },
        }

    def test_an_index_file_stands_for_the_path(self, server: StandIn, run):
        index = "s3://datasets/list.txt"
        server.reply("POST", "/v1/jobs", CONTRACT, status=201)
        submitted = run("job", "load", "--index-file", index, "--submit", "--bandwidth", "", "--partial-listing")
        assert submitted.out == f"Load '{index}' is successfully submitted. JobId: {JOB_ID}\n"
        body = server.asked[0][2]
        assert (body["index"], "paths" in body, "bandwidth" in body["options"]) == (index, False, False)
        server.reply("GET", PROGRESS, "\tJob State: RUNNING\n")
        assert run("job", "load", "--index-file", index, "--progress").out.startswith(
            f"Progress for loading path '{index}':\n"
        )
        assert f"indexFile={quote(index, safe='')}" in server.asked[1][1]
        server.reply("POST", STOP, {"success": True})
        assert run("job", "load", "--index-file", index, "--stop").code == 0
        assert server.asked[2][2] == {"indexFile": index}

    def test_submit_of_a_path_that_is_loading(self, server: StandIn, run):
        server.reply("POST", "/v1/jobs", CONTRACT | {"attached": True})
        ended = run("job", "load", PATH, "--submit")
        assert (ended.code, ended.out) == (0, f"Load already running for path '{PATH}' \n")

    def test_a_refused_submit_is_alluxios_minus_1_with_the_remedy_on_stderr(self, server: StandIn, run):
        problem = BucketNotFound("There is no bucket 'datasets'.").problem()
        server.reply("POST", "/v1/jobs", problem, status=404)
        ended = run("job", "load", PATH, "--submit")
        assert ended.code == 255
        assert ended.out == f"Failed to submit load job {PATH}: There is no bucket 'datasets'.\n"
        assert "AWS_ENDPOINT_URL" in ended.err

    def test_progress_prints_the_report_below_its_title(self, server: StandIn, run):
        report = "\tSettings:\tbandwidth: unlimited\tverify: false\n\tJob State: FAILED (no disk)\n"
        server.reply("GET", PROGRESS, report)
        ended = run("job", "load", PATH, "--progress", "--verbose")
        assert ended.code == 0
        assert ended.out == f"Progress for loading path '{PATH}':\n{report}"
        assert "verbose=true" in server.asked[0][1]

    def test_progress_as_json_is_only_json(self, server: StandIn, run):
        server.reply("GET", PROGRESS, {"mJobState": "RUNNING"})
        ended = run("job", "load", PATH, "--progress", "--format", "json")
        assert json.loads(ended.out) == {"mJobState": "RUNNING"}

    def test_progress_of_an_unknown_path_is_alluxios_minus_2(self, server: StandIn, run):
        server.reply("GET", PROGRESS, JobNotFound("no").problem(), status=404)
        ended = run("job", "load", PATH, "--progress")
        assert (ended.code, ended.out) == (254, f"Load for path '{PATH}' cannot be found.\n")

    def test_stop(self, server: StandIn, run):
        server.reply("POST", STOP, {"success": True, "path": PATH}, {"success": False, "path": PATH})
        first, second = run("job", "load", PATH, "--stop"), run("job", "load", PATH, "--stop")
        assert (first.code, first.out) == (0, f"Load '{PATH}' is successfully stopped.\n")
        gone = f"Cannot find load job for path {PATH}, it might have already been stopped or finished\n"
        assert (second.code, second.out) == (0, gone)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([PATH], "Must have one of submit / stop / progress"),
            ([PATH, "--submit", "--stop"], "Must have one of submit / stop / progress"),
            (["--submit"], "Give one path"),
            ([PATH, "--path", PATH, "--submit"], "Give one path"),
            ([f"{PATH}*", "--submit"], "Load does not support wildcard path"),
            ([PATH, "--submit", "--bandwidth", "fast"], "bandwidth='fast' is not a size"),
            ([PATH, "--index-file", PATH, "--submit"], "Give one path"),
            ([PATH, "--submit", "--priority", "urgent"], "urgent"),
            ([PATH, "--submit", "--deadline", "tomorrow"], "is not a time"),
            ([PATH, "--submit", "--deadline", "2100-01-31T06:00:00"], "has no offset"),
        ],
    )
    def test_wrong_usage_is_exit_2(self, run, arguments: list[str], message: str):
        ended = run("job", "load", *arguments)
        assert ended.code == 2
        assert message in " ".join(ended.err.replace("│", " ").split())

    @pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
    def test_wait_follows_the_revisions_to_the_end(self, server: StandIn, run, state: str, code: int):
        running = CONTRACT | {"state": "RUNNING", "revision": 3, "listingDone": False}
        server.reply("POST", "/v1/jobs", running, status=201)
        server.reply("GET", ONE_JOB, running | {"revision": 4}, CONTRACT | {"state": state})
        ended = run("job", "load", PATH, "--submit", "--wait")
        assert ended.code == code
        assert [asked[1].partition("after=")[2] for asked in server.asked[1:]] == ["3", "4"]


class TestLoad:
    def test_it_waits_and_sums_up(self, server: StandIn, run):
        server.reply("POST", "/v1/jobs", CONTRACT, status=201)
        ended = run("load", PATH)
        assert ended.code == 0
        assert ended.out.startswith("SUCCEEDED: 1797 files, 197 KiB hot (7 of them before), 0 failed, in 2.46 s")

    def test_a_failure_is_exit_1_and_says_why(self, server: StandIn, run):
        server.reply("POST", "/v1/jobs", CONTRACT | {"state": "FAILED", "reason": "3 files failed."}, status=201)
        ended = run("load", PATH)
        assert ended.code == 1
        assert "3 files failed." in ended.out
        assert f"preheat job stat -v {JOB_ID}" in ended.out


class TestJobs:
    def test_json_is_the_contract(self, server: StandIn, run):
        server.reply("GET", ONE_JOB, CONTRACT)
        assert json.loads(run("job", "stat", JOB_ID, "--json").out) == CONTRACT

    def test_stat_shows_the_counts_and_verbose_the_failures(self, server: StandIn, run):
        failure = {"path": f"{PATH}7.png", "size": 112, "code": "access_denied", "message": "no"}
        server.reply("GET", ONE_JOB, CONTRACT | {"failures": [failure]})
        server.reply("GET", f"{ONE_JOB}/tasks", {"tasks": []})
        plain, verbose = run("job", "stat", JOB_ID).out, run("job", "stat", JOB_ID, "-v").out
        assert "1790 files, 196 KiB" in plain
        assert "access_denied" not in plain
        assert f"{PATH}7.png" in verbose

    def test_ls_prints_a_line_per_job_uncut(self, server: StandIn, run):
        long = "s3://datasets/" + "a" * 300
        server.reply("GET", "/v1/jobs", {"jobs": [CONTRACT, CONTRACT | {"paths": [long]}], "next": None})
        lines = run("job", "ls", "--state", "succeeded").out.splitlines()
        assert len(lines) == 3
        assert lines[1].startswith(JOB_ID)
        assert long in lines[2]
        assert "state=SUCCEEDED" in server.asked[0][1]

    def test_cancel_tells_a_stopped_job_from_an_ended_one(self, server: StandIn, run):
        server.reply("GET", ONE_JOB, CONTRACT | {"state": "RUNNING"}, CONTRACT)
        server.reply("POST", f"{ONE_JOB}/stop", CONTRACT | {"state": "STOPPED"}, CONTRACT)
        assert "is being stopped" in run("job", "cancel", JOB_ID).out
        assert "ended before: SUCCEEDED" in run("job", "cancel", JOB_ID).out

    def test_an_id_with_a_slash_stays_one_part_of_the_url(self, server: StandIn, run):
        server.reply("GET", "/v1/jobs/a%2Fb", CONTRACT)
        assert run("job", "stat", "a/b").code == 0

    def test_the_token_goes_along(self, server: StandIn, run, monkeypatch):
        monkeypatch.setenv("PREHEAT_TOKEN", "t0ken")
        server.reply("GET", ONE_JOB, CONTRACT)
        run("job", "stat", JOB_ID)
        assert server.asked[0][3]["Authorization"] == "Bearer t0ken"


class TestErrors:
    def test_an_error_is_one_line_and_the_remedy_on_stderr(self, server: StandIn, run):
        server.reply("GET", "/v1/jobs/nope", JobNotFound("No job has the id 'nope'.").problem(), status=404)
        ended = run("job", "stat", "nope")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.splitlines() == [
            "Error: No job has the id 'nope'.",
            "List the known jobs with `preheat job ls`.",
        ]

    def test_with_json_the_problem_object_is_on_stdout(self, server: StandIn, run):
        server.reply("GET", "/v1/jobs/nope", JobNotFound("No job.").problem(), status=404)
        ended = run("job", "stat", "nope", "--json")
        assert ended.code == 1
        assert json.loads(ended.out)["code"] == "job_not_found"

    def test_a_coordinator_that_is_down_is_named(self, run, free_port: int):
        url = f"http://127.0.0.1:{free_port}"
        ended = run("job", "ls", "--coordinator", url)
        assert ended.code == 1
        assert f"No coordinator answers at {url} (connection refused)." in ended.err
        assert "preheat up" in ended.err

    def test_a_url_without_a_scheme_is_explained(self, run):
        ended = run("job", "ls", "--coordinator", "localhost:19999")
        assert "'localhost:19999' is not an http:// URL" in ended.err

    def test_a_server_of_another_kind_is_recognised(self, server: StandIn, run):
        server.reply("GET", "/v1/jobs", ["hello"])
        ended = run("job", "ls")
        assert ended.code == 1
        assert "does not answer as a Preheat coordinator does" in ended.err

    def test_markup_in_a_message_is_printed_as_it_is(self, server: StandIn, run):
        server.reply("GET", ONE_JOB, JobNotFound("[bold]x[/nope]").problem(), status=404)
        assert "[bold]x[/nope]" in run("job", "stat", JOB_ID).err


class TestLocalCluster:
    def test_status_and_down_of_nothing(self, run, tmp_path: Path):
        status = run("status", "--data-dir", str(tmp_path))
        assert status.code == 1
        assert f"No cluster runs on {tmp_path}" in status.out
        assert json.loads(run("status", "--data-dir", str(tmp_path), "--json").out)["running"] is False
        assert run("down", "--data-dir", str(tmp_path)).code == 0

    @pytest.mark.parametrize(
        "wrong",
        [("--workers", "0"), ("--capacity", "much"), ("--worker-hosts", "node7"), ("--port", "70000")],
    )
    def test_a_wrong_option_of_up_is_exit_2_and_named(self, run, tmp_path: Path, wrong: tuple[str, str]):
        ended = run("up", "--data-dir", str(tmp_path), *wrong)
        assert ended.code == 2
        assert wrong[1] in ended.err

    def test_a_taken_port_is_exit_1_and_named(self, run, server: StandIn, tmp_path: Path):
        port = server.url.rpartition(":")[2]
        ended = run("up", "--data-dir", str(tmp_path), "--port", port)
        assert ended.code == 1
        assert f"Port {port} of 127.0.0.1 is taken" in ended.err
        assert "--port" in ended.err

    def test_a_worker_id_that_no_subject_can_have_is_refused(self, run):
        ended = run("worker", "--id", "a.b")
        assert ended.code == 2


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
