"""Claims and fences: who may cancel, when it takes effect, and what revokes it."""

from __future__ import annotations

import pytest

from preheat import claims
from preheat.claims import BREAK_SECONDS, Attendance
from preheat.coordinator._attendance import Attendant
from preheat.engine import MemoryEngine
from preheat.errors import EngineUnavailable
from preheat.jobs import JobControl

GRACE = 8.0
LEASE = 1800.0


def abandoned(control: JobControl, now: float, *, attended_since: float = 0.0) -> str:
    return claims.abandoned(control, now, attended_since=attended_since, grace=GRACE)


def leased(*waiters: str) -> JobControl:
    control = JobControl()
    for waiter in waiters:
        control = claims.claim(control, waiter, f"{waiter}-1", lease=LEASE, now=1000.0)
    return control


def test_a_job_that_nobody_claimed_is_not_abandoned():
    assert not abandoned(JobControl(), 1e12)


def test_a_cancel_takes_effect_after_its_grace():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    assert not abandoned(control, 107.9)
    assert abandoned(control, 108.0)


def test_a_stale_fence_and_a_stranger_are_ignored():
    control = claims.claim(claims.claim(JobControl(), "a", "f1"), "a", "f2")
    for waiter, fence in (("a", "f1"), ("b", "f2")):
        assert claims.cancel(control, waiter, fence, leaves_at=0.0) == control


def test_a_new_claim_revokes_a_pending_cancel():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    control = claims.claim(control, "a", "f2")
    assert not abandoned(control, 1e12)
    assert claims.cancel(control, "a", "f1", leaves_at=0.0) == control


def test_a_second_cancel_does_not_prolong_the_grace():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    assert claims.cancel(control, "a", "f1", leaves_at=200.0) == control


def test_the_last_waiter_takes_the_job_with_it():
    control = claims.claim(claims.claim(JobControl(), "a", "f1"), "b", "f2")
    control = claims.cancel(control, "a", "f1", leaves_at=100.0)
    assert not abandoned(control, 101.0)
    control = claims.cancel(control, "b", "f2", leaves_at=110.0)
    assert not abandoned(control, 101.0)
    assert abandoned(control, 110.0)


def test_a_lease_that_ran_out_is_a_cancel_with_its_grace():
    control = leased("a")
    assert not abandoned(control, 1000 + LEASE + 7.9)
    assert "not heard of for 1800 s" in abandoned(control, 1000 + LEASE + GRACE)


def test_a_renewal_begins_the_lease_anew_and_only_with_the_present_fence():
    control = claims.renew(leased("a"), "a", "a-1", now=2000.0)
    assert not abandoned(control, 2000 + LEASE)
    assert abandoned(control, 2000 + LEASE + GRACE)
    for waiter, fence in (("a", "a-0"), ("b", "a-1")):
        assert claims.renew(control, waiter, fence, now=9000.0) == control


def test_a_renewal_revokes_no_cancel_and_a_claim_without_a_lease_needs_none():
    control = claims.cancel(leased("a"), "a", "a-1", leaves_at=1008.0)
    assert abandoned(claims.renew(control, "a", "a-1", now=1007.0), 1008.0)
    forever = claims.claim(leased("a"), "a", "a-2")
    assert claims.renew(forever, "a", "a-2", now=1.0) == forever
    assert not abandoned(forever, 1e12)


def test_a_shared_job_goes_on_until_the_last_lease_has_run_out():
    control = claims.renew(leased("a", "b"), "b", "b-1", now=2000.0)
    assert not abandoned(control, 1000 + LEASE + GRACE)
    assert abandoned(control, 2000 + LEASE + GRACE)
    assert not abandoned(claims.claim(control, "c", "c-1"), 1e12)


def test_the_coordinators_own_absence_counts_against_nobody():
    control = leased("a")
    back = 1000 + 10 * LEASE
    assert not abandoned(control, back, attended_since=back)
    assert not abandoned(control, back + LEASE, attended_since=back)
    assert abandoned(control, back + LEASE + GRACE, attended_since=back)


def test_a_short_break_is_none():
    there = Attendance(since=0.0, last=0.0).at(BREAK_SECONDS)
    assert there == Attendance(since=0.0, last=BREAK_SECONDS)
    assert there.at(2 * BREAK_SECONDS + 1).since == 2 * BREAK_SECONDS + 1


async def test_leases_do_not_run_out_while_the_engine_or_the_coordinator_is_away(monkeypatch: pytest.MonkeyPatch):
    now, engine = [1000.0], MemoryEngine()
    attendant, control = Attendant(engine, grace_seconds=GRACE, clock=lambda: now[0]), leased("a")

    async def attend(until: float) -> None:
        while now[0] < until:
            now[0] += BREAK_SECONDS / 2
            await attendant.look()

    async def away(*_: object) -> None:
        raise EngineUnavailable("No answer.")

    with monkeypatch.context() as outage:
        outage.setattr(engine, "get", away)
        await attend(1000 + 2 * LEASE)
        assert not attendant.abandonment(control, now[0])
    await attend(back := now[0] + BREAK_SECONDS / 2)
    assert not attendant.abandonment(control, back + BREAK_SECONDS)
    await attend(back + LEASE + GRACE)
    assert attendant.abandonment(control, now[0])
    assert not attendant.abandonment(control, now[0] + 10 * LEASE)  # the process was stopped, and has not looked yet
