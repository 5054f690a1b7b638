"""What the provider reads from a job, and what it says about it."""

import json

import pytest

from airflow_preheat import jobs
from airflow_preheat.exceptions import PreheatRequestError
from tests.integration.provider_coordinator import CONTRACT_JOB


def test_every_field_that_is_read_is_in_the_contract():
    assert set(jobs.Job.__annotations__) <= set(CONTRACT_JOB)


def test_the_summary_of_the_contracts_job():
    assert jobs.summarize(CONTRACT_JOB) == {
        "job_id": CONTRACT_JOB["id"],
        "url": CONTRACT_JOB["url"],
        "paths": ["s3://datasets/digits/"],
        "files": 1797,
        "bytes": 201264,
        "loaded": 1790,
        "skipped": 7,
        "failed": 0,
        "hot_fraction": 1.0,
        "hot_in_order": 1797,
        "dataset_version": CONTRACT_JOB["datasetVersion"],
        "receipt": CONTRACT_JOB["receipt"],
    }


def test_the_summary_stays_small_however_many_files_failed():
    failures = [{"path": f"s3://b/{n}", "size": 1, "code": "x", "message": "y"} for n in range(100)]

    assert len(json.dumps(jobs.summarize(CONTRACT_JOB | {"failures": failures}))) < 1500


def test_a_coordinator_that_signs_no_receipts_is_told_of_without_one():
    job = {name: fact for name, fact in CONTRACT_JOB.items() if name != "receipt"}

    assert jobs.summarize(job)["receipt"] is None


def test_progress_is_in_units_for_people():
    assert jobs.progress(CONTRACT_JOB) == "SUCCEEDED: 1797 of 1797 files, 197 KiB of 197 KiB"
    running = {"state": "RUNNING", "listingDone": False, "failed": {"files": 2, "bytes": 9}}
    assert jobs.progress(CONTRACT_JOB | running).endswith("197 KiB, 2 failed, still listing")


def test_a_failure_is_explained_with_its_reason_and_the_first_files():
    failures = [{"path": f"s3://b/{n}", "size": 1, "code": "access_denied", "message": f"No {n}."} for n in range(7)]
    failed = {"state": "FAILED", "reason": "Too many failed.", "failures": failures}
    text = jobs.explain(CONTRACT_JOB | failed | {"failed": {"files": 7, "bytes": 7}})

    assert "Too many failed." in text
    assert "s3://b/4: No 4. (access_denied)" in text
    assert "s3://b/5" not in text
    assert text.endswith(f"and 2 more; see {CONTRACT_JOB['url']}")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (3 << 40, "3 TiB"),
        (1020 << 10, "1020 KiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_sizes(size, text):
    assert jobs.human_size(size) == text


def test_values_from_templates_are_read():
    assert [jobs.as_int("n", value) for value in (2, "2", " 2 ", "", None)] == [2, 2, 2, None, None]
    assert [jobs.as_bool("b", value) for value in (True, "True", "false", False)] == [True, True, False, False]


def test_values_from_templates_that_cannot_be_used_are_named():
    with pytest.raises(PreheatRequestError, match="replicas='two'"):
        jobs.as_int("replicas", "two")
    with pytest.raises(PreheatRequestError, match="verify='yes'"):
        jobs.as_bool("verify", "yes")
