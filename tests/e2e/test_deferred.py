"""Many deferred preloads in one triggerer; ``make deferred`` prints the numbers for more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.deferred import measure

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def test_what_waits_costs_nothing_and_ends_are_noticed_at_once(tmp_path: Path) -> None:
    measured = measure(200, tmp_path)

    assert measured.p99 < 3, measured
    assert measured.requests < 0.5, measured  # 200 that poll every 20 s send 10 a second
    assert measured.connections <= 2, measured
    assert measured.blocked == 0, measured
