"""The decisions of a wait, with no clock and no coordinator."""

import pytest

from airflow_preheat._watch import JobWait, JobWatch
from airflow_preheat.exceptions import PreheatError, PreheatJobNotFoundError, PreheatUnreachableError
from airflow_preheat.jobs import Claim
from tests.integration.provider_coordinator import CONTRACT_JOB

CLAIM = Claim(job_id="j", waiter="dag/run/warm/-1")
WAIT = JobWait(
    job_id="j",
    waiter="dag/run/warm/-1",
    preheat_conn_id="preheat_default",
    deadline=1000.0,
    poll_interval=20.0,
    outage_tolerance=60.0,
    cancel_on_kill=True,
)


@pytest.fixture
def watch() -> JobWatch:
    return JobWatch(wait=WAIT, claim=CLAIM)


def job(state: str, **fields: object) -> dict:
    return CONTRACT_JOB | {"state": state} | fields


def test_every_process_that_waits_claims_with_a_fence_of_its_own():
    first, second = WAIT.claim(), WAIT.claim()

    assert (first.job_id, first.waiter) == ("j", "dag/run/warm/-1")
    assert first.fence != second.fence


def test_the_job_is_claimed_before_it_is_polled(watch):
    assert not watch.claimed

    watch.seen(job("RUNNING"), long_poll=True)
    assert watch.claimed


def test_a_claim_that_did_not_get_through_is_sent_again(watch):
    watch.missed(PreheatUnreachableError("Nobody answers."), 0.0)

    assert not watch.claimed
    assert watch.pause(0.0, 0.0) == 1.0


def test_a_poll_is_as_long_as_the_interval_and_ends_at_the_deadline(watch):
    assert watch.next_poll(0.0) == 20.0
    assert watch.next_poll(995.0) == 5.0
    assert watch.next_poll(1000.0) is None
    assert watch.expired()["status"] == "deadline"
    assert "goes on if others wait for it" in watch.expired()["message"]


def test_the_first_poll_follows_the_claim_at_once(watch):
    watch.seen(job("RUNNING"), long_poll=True)

    assert watch.pause(100.0, 100.0) == 0.0


def test_a_poll_that_fails_is_not_repeated_at_once(watch):
    watch.seen(job("RUNNING"), long_poll=True)
    watch.missed(PreheatUnreachableError("Nobody answers."), 100.0)

    assert watch.pause(100.0, 100.0) == 1.0


def test_polls_that_are_answered_at_once_are_a_second_apart(watch):
    watch.seen(job("RUNNING"), long_poll=True)
    watch.seen(job("RUNNING"), long_poll=True)

    assert watch.pause(100.0, 100.0) == 1.0
    assert watch.pause(100.0, 120.0) == 0.0
    assert watch.pause(999.9, 999.9) == pytest.approx(0.1)
    assert watch.pause(1000.5, 1000.5) == 0.0


def test_a_coordinator_that_answers_every_poll_at_once_is_polled_once_an_interval(watch):
    watch.seen(job("RUNNING"), long_poll=False)

    assert watch.pause(100.0, 101.0) == 19.0
    assert watch.pause(990.0, 991.0) == 9.0


@pytest.mark.parametrize("state", ["WAITING", "RUNNING", "VERIFYING"])
def test_a_job_that_goes_on_is_waited_for(watch, state):
    assert watch.seen(job(state), long_poll=True) is None


@pytest.mark.parametrize(
    ("state", "status"), [("SUCCEEDED", "succeeded"), ("FAILED", "failed"), ("STOPPED", "stopped")]
)
def test_the_end_of_the_job_ends_the_wait(watch, state, status):
    event = watch.seen(job(state, reason="Why."), long_poll=True)

    assert event["status"] == status
    assert event["job_id"] == CONTRACT_JOB["id"]
    assert event["job"]["files"] == 1797
    assert ("Why." in event["message"]) is (state != "SUCCEEDED")


def test_a_coordinator_may_be_away_for_as_long_as_it_is_tolerated(watch):
    away = PreheatUnreachableError("Nobody answers.")

    assert watch.missed(away, 100.0) is None
    assert watch.missed(away, 159.0) is None
    event = watch.missed(away, 160.0)
    assert event["status"] == "unavailable"
    assert "Nobody answers. Waited 60 s" in event["message"]


def test_an_answer_in_between_starts_the_tolerance_anew(watch):
    away = PreheatUnreachableError("Nobody answers.")

    assert watch.missed(away, 100.0) is None
    assert watch.seen(job("RUNNING"), long_poll=True) is None
    assert watch.missed(away, 159.0) is None
    assert watch.missed(away, 200.0) is None


@pytest.mark.parametrize(
    ("error", "status"), [(PreheatJobNotFoundError("Gone."), "lost"), (PreheatError("Odd."), "error")]
)
def test_other_errors_end_the_wait_at_once(watch, error, status):
    event = watch.missed(error, 0.0)

    assert (event["status"], event["message"]) == (status, str(error))
