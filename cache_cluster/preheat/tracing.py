"""W3C trace context (https://www.w3.org/TR/trace-context/): who asked for what we do. Pure.

A request that names a trace is continued with a span id of our own; one that does not, or not validly, starts a trace.
Preheat records no spans itself: the ids stand in its logs, in the job and in its answers, where a tracing system of
the caller finds them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS = 32
_KNOWN_FLAGS = 0x03
"""Sampled, and random trace id; what later versions add is not ours to pass on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceContext:
    """A place in a trace."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: the caller's, or ours."""
    flags: int = 0
    state: str = ""
    """What tracing systems pass along, as it came."""

    @property
    def traceparent(self) -> str:
        """The value of the header, in version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers with which a request is sent on."""
        return {"traceparent": self.traceparent} | ({"tracestate": self.state} if self.state else {})

    def child(self) -> TraceContext:
        """Return a new place below this one."""
        return TraceContext(trace_id=self.trace_id, span_id=secrets.token_hex(8), flags=self.flags, state=self.state)


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """Read the two headers; none if the first is not valid. A second that is not valid is left out."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    known = int(flags, 16) & _KNOWN_FLAGS
    return TraceContext(trace_id=trace_id, span_id=span_id, flags=known, state=_valid_state(tracestate))


def start() -> TraceContext:
    """Return the root of a new trace, which nobody has asked to record."""
    return TraceContext(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8))


def from_environment(environment: Mapping[str, str]) -> TraceContext | None:
    """Return the place that ``TRACEPARENT`` and ``TRACESTATE`` name, as build systems and OpenTelemetry's tools do."""
    return parse(environment.get("TRACEPARENT", ""), environment.get("TRACESTATE", ""))


def _valid_state(text: str) -> str:
    members = [member.strip(" \t") for member in text.split(",")]
    named = [member for member in members if member]
    names = {member.partition("=")[0] for member in named}
    valid = len(named) <= _MAX_MEMBERS and len(names) == len(named) and all(map(_MEMBER.fullmatch, named))
    return ",".join(named) if valid else ""
