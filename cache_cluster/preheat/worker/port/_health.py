"""What the data port says of the worker itself: that it lives, whether it takes part, and its counters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from preheat.errors import Unavailable
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ReadService
from preheat.worker.port import _http as http

OPEN = frozenset({"/v1/healthz", "/v1/readyz"})
"""Answered without a token: probes have none."""
COUNTERS = frozenset({"/v1/stats", "/metrics"})
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_GAUGES = frozenset({"failedDirectories"})
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Health:
    """Answers from the counters of a read service and a worker's readiness."""

    def __init__(self, reads: ReadService, readiness: Readiness) -> None:
        self._reads = reads
        self._readiness = readiness

    def answer(self, target: str) -> http.Answer | None:
        """Return the answer; none if something else was asked for.

        Raises:
            Unavailable: the worker was asked whether it is ready, and is not.
        """
        if target == "/v1/healthz":
            return http.json_answer({"status": "ok"})
        if target == "/v1/readyz":
            if missing := self._readiness.missing:
                raise Unavailable(missing, remedy="Ask again in a few seconds; meanwhile ask another worker.")
            return http.json_answer({"status": "ok"})
        if target == "/v1/stats":
            return http.json_answer(self._reads.stats())
        if target == "/metrics":
            return http.Answer(body=prometheus_text(self._reads.stats()).encode(), content_type=_PROMETHEUS)
        return None


def prometheus_text(stats: Mapping[str, int]) -> str:
    """Return the counters as Prometheus reads them: ``hitBytes`` becomes ``preheat_worker_hit_bytes_total``."""
    return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, kind, value in map(_metric, stats.items()))


def _metric(stat: tuple[str, int]) -> tuple[str, str, int]:
    key, value = stat
    name = f"preheat_worker_{_HUMP.sub('_', key).lower()}"
    return (name, "gauge", value) if key in _GAUGES else (f"{name}_total", "counter", value)
