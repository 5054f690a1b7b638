"""W3C trace context: what is read, continued, refused, and told."""

from __future__ import annotations

import pytest

from preheat import tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_trace_is_continued_with_a_span_of_its_own():
    parent = tracing.parse(PARENT, "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")
    assert parent is not None
    child = parent.child()
    assert (child.trace_id, child.flags) == (TRACE, 1)
    assert child.span_id != SPAN
    assert child.headers == {
        "traceparent": f"00-{TRACE}-{child.span_id}-01",
        "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    }
    assert tracing.parse(child.traceparent, child.state) == child


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        TRACE,
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-zz",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_what_the_standard_calls_invalid_is_no_trace(wrong: str):
    assert tracing.parse(wrong) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    context = tracing.parse(f"cc-{TRACE}-{SPAN}-ff-what-comes", "")
    assert context is not None
    assert context.traceparent == f"00-{TRACE}-{SPAN}-03"


@pytest.mark.parametrize(
    "state",
    ["a", "a=", "A=1", "a=1,a=2", "a=\x7f", "a=1;\n", ",".join(f"k{number}=1" for number in range(33))],
)
def test_a_wrong_state_is_left_out_and_the_trace_stays(state: str):
    context = tracing.parse(PARENT, state)
    assert context is not None
    assert context.headers == {"traceparent": PARENT}


def test_new_traces_differ_and_are_valid():
    first, second = tracing.start(), tracing.start()
    assert first.trace_id != second.trace_id
    assert tracing.parse(first.traceparent) == first


def test_the_environment_names_a_trace_or_none():
    assert tracing.from_environment({}) is None
    assert tracing.from_environment({"TRACEPARENT": "junk"}) is None
    context = tracing.from_environment({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"})
    assert context is not None
    assert context.headers == {"traceparent": PARENT, "tracestate": "a=1"}
