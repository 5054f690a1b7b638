"""The decisions of a wait, with no clock and no coordinator."""

from dataclasses import replace

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
    return JobWatch(wait=WAIT, claim=CLAIM, random=lambda: 1.0)


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


def test_a_coordinator_that_stays_away_is_asked_ever_more_rarely_and_not_by_all_at_once(watch):
    away = PreheatUnreachableError("Nobody answers.")
    watch.wait = replace(WAIT, outage_tolerance=1e9, deadline=1e9)

    def gaps(count: int) -> list[float]:
        return [watch.pause(0.0, 0.0) for _ in range(count) if watch.missed(away, 0.0) is None]

    assert gaps(7) == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert len(gaps(5000)) == 5000
    watch.seen(job("RUNNING"), long_poll=True)
    watch.random = lambda: 0.0
    assert gaps(3) == [0.5, 1.0, 2.0]
    assert len({JobWatch(wait=WAIT, claim=CLAIM).random() for _ in range(9)}) > 1


def test_the_last_pause_ends_with_the_deadline(watch):
    for _ in range(6):
        watch.missed(PreheatUnreachableError("Nobody answers."), 100.0)
    assert watch.pause(997.0, 997.0) == 3.0


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


@pytest.fixture
def leased() -> JobWatch:
    wait = replace(WAIT, lease=60.0, poll_interval=500.0)
    return JobWatch(wait=wait, claim=wait.claim(), random=lambda: 1.0)


def test_a_lease_is_renewed_three_times_before_it_runs_out(leased):
    assert not leased.must_renew(100.0)  # it is not claimed yet
    leased.held(100.0)

    assert leased.next_poll(100.0) == 20.0
    assert not leased.must_renew(119.9)
    assert leased.must_renew(120.0)
    leased.missed(PreheatUnreachableError("Nobody answers."), 121.0)
    assert leased.must_renew(122.0)
    assert leased.next_poll(122.0) == 0.0
    leased.held(122.0)
    assert not leased.must_renew(141.9)
    leased.random = lambda: 0.0
    leased.held(200.0)
    assert leased.next_poll(200.0) == 10.0


def test_a_wait_without_a_lease_renews_nothing(watch):
    watch.held(100.0)
    assert not watch.must_renew(1e9)
    assert watch.next_poll(100.0) == 20.0


def test_a_job_that_is_to_go_on_is_claimed_for_ever():
    wait = replace(WAIT, lease=60.0)
    assert wait.claim().lease == 60.0
    assert wait.claim().as_json()["lease"] == 60.0
    assert "lease" not in wait.claim().names()
    for goes_on in (replace(wait, first=10), replace(wait, cancel_on_kill=False), WAIT):
        assert goes_on.claim().lease is None
        assert "lease" not in goes_on.claim().as_json()


def test_a_job_that_was_stopped_as_if_nobody_waited_says_so(watch):
    event = watch.seen(job("STOPPED", abandoned=True, reason="Nobody renewed."), long_poll=True)

    assert event["status"] == "abandoned"
    assert "as if this task waited no longer. Nobody renewed." in event["message"]


@pytest.mark.parametrize(("at_most", "status"), [(None, None), (1000, None), (999, "unmet")])
def test_first_files_that_cannot_become_hot_any_more_end_the_wait(at_most, status):
    watch = JobWatch(wait=replace(WAIT, first=1000), claim=CLAIM)
    running = job("RUNNING", hotInOrder=5, hotInOrderAtMost=at_most)

    assert watch.ends(running) is (status is not None)
    event = watch.seen(running, long_poll=True)
    assert (event and event["status"]) == status
    assert event is None or "of the first 1000 files that the task waits for only 999 can" in event["message"]
