"""Whether a worker takes part: told by its heart, asked at its data port (``/v1/readyz``)."""

from __future__ import annotations


class Readiness:
    """What is missing until readers should be sent here.

    A worker that joined stays ready while the engine is away, for it serves reads without it.
    """

    def __init__(self) -> None:
        self.missing = "The worker has not joined the cluster yet."
        """A sentence; empty while the worker takes part."""

    def joined(self, *, leaving: bool) -> None:
        """Note that the coordinators have been told of this worker: that it takes part, or that it leaves."""
        self.missing = "The worker is leaving, or drained." if leaving else ""
