"""Claims and fences: who may cancel, when it takes effect, and what revokes it."""

from __future__ import annotations

from preheat import claims
from preheat.jobs import JobControl


def test_a_job_that_nobody_claimed_is_not_abandoned():
    assert not claims.abandoned(JobControl(), now=1e12)


def test_a_cancel_takes_effect_after_its_grace():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    assert not claims.abandoned(control, now=107.9)
    assert claims.abandoned(control, now=108.0)


def test_a_stale_fence_and_a_stranger_are_ignored():
    control = claims.claim(claims.claim(JobControl(), "a", "f1"), "a", "f2")
    for waiter, fence in (("a", "f1"), ("b", "f2")):
        assert claims.cancel(control, waiter, fence, leaves_at=0.0) == control


def test_a_new_claim_revokes_a_pending_cancel():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    control = claims.claim(control, "a", "f2")
    assert not claims.abandoned(control, now=1e12)
    assert claims.cancel(control, "a", "f1", leaves_at=0.0) == control


def test_a_second_cancel_does_not_prolong_the_grace():
    control = claims.cancel(claims.claim(JobControl(), "a", "f1"), "a", "f1", leaves_at=108.0)
    assert claims.cancel(control, "a", "f1", leaves_at=200.0) == control


def test_the_last_waiter_takes_the_job_with_it():
    control = claims.claim(claims.claim(JobControl(), "a", "f1"), "b", "f2")
    control = claims.cancel(control, "a", "f1", leaves_at=100.0)
    assert not claims.abandoned(control, now=101.0)
    control = claims.cancel(control, "b", "f2", leaves_at=110.0)
    assert not claims.abandoned(control, now=101.0)
    assert claims.abandoned(control, now=110.0)
