"""The progress report is Alluxio's to the byte (vectors 11 and 12 of the contract)."""

from __future__ import annotations

import pytest

from preheat.api._report import json_report, text_report
from preheat.jobs import FailedObject, Job, JobSpec, JobState, Progress, Tally
from preheat.units import alluxio_size

MIB = 1 << 20


def loading() -> Job:
    """Three files and 640 MiB of 1600 MiB are loaded, as in Alluxio's LoadJobTest."""
    load = Progress(
        listed=Tally(objects=8, bytes=1600 * MIB), done=Tally(objects=3, bytes=640 * MIB), listing_done=True
    )
    return Job(id="j", spec=JobSpec(paths=("s3://b/",)), state=JobState.RUNNING, submitted_at=0.0, work=load)


def test_text_vector():
    assert text_report(loading()) == (
        "\tSettings:\tbandwidth: unlimited\tverify: false\n"
        "\tJob State: RUNNING\n"
        "\tFiles Processed: 3\n"
        "\tBytes Loaded: 640.00MB out of 1600.00MB\n"
        "\tBlock load failure rate: 0.00%\n"
        "\tFiles Failed: 0\n"
    )


def test_json_vector():
    assert json_report(loading()) == {
        "mVerbose": False,
        "mJobState": "RUNNING",
        "mVerificationEnabled": False,
        "mProcessedFileCount": 3,
        "mLoadedByteCount": 671088640,
        "mTotalByteCount": 1677721600,
        "mFailurePercentage": 0.0,
        "mFailedFileCount": 0,
    }


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (5120, "5120B"), (5121, "5.00KB"), (640 * MIB, "640.00MB"), (1600 * MIB, "1600.00MB"),
     (6400 * MIB, "6.25GB")],
)  # fmt: skip
def test_sizes(size: int, text: str):
    assert alluxio_size(size) == text


def test_a_failed_job_says_why():
    failed = FailedObject(path="s3://b/x", size=1, code="object_not_found", message="gone")
    job = Job(
        id="j",
        spec=JobSpec(paths=("s3://b/",)),
        state=JobState.FAILED,
        reason="1 of 1 files could not be loaded.",
        submitted_at=0.0,
        started_at=10.0,
        finished_at=12.0,
        work=Progress(listed=Tally(objects=1, bytes=1), failed=Tally(objects=1, bytes=1)),
        failures=(failed,),
    )
    text = text_report(job, verbose=True)
    assert "\tJob State: FAILED (1 of 1 files could not be loaded.)\n" in text
    assert "\tThroughput: 0B/s\n" in text
    assert "\tBlock load failure rate: 100.00%\n\tFiles Failed: 1\n\t\ts3://b/x: Status code: object_not_found" in text
    assert json_report(job, verbose=True)["mFailedFilesWithReasons"] == {"s3://b/x": "gone"}
