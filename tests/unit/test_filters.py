"""Filters on keys: in time linear in the key, and with errors that say what to change."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.coordinator._validation import validate
from preheat.errors import InvalidRequest
from preheat.filters import KeyFilter
from preheat.jobs import JobOptions, JobSpec


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "([ab]*a){1,200}c", "(.{0,30}){0,30}x"])
def test_no_expression_takes_long(pattern: str):
    keys = KeyFilter(pattern)
    started = time.monotonic()
    keys.matches("a" * 1000 + "!")
    assert time.monotonic() - started < 1  # backtracking over 30 letters alone takes minutes


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(", "fileFilterRegex='(': missing ): ( (at offset 0)."),
        ("a[z-b]", "fileFilterRegex='a[z-b]': invalid character class range: z-b (at offset 2)."),
        ("x(?=b)", "invalid perl operator: (?= (at offset 1)"),
        (r"(a)\1", r"invalid escape sequence: \1 (at offset 3)"),
        ("a{1001}", "invalid repetition size: {1001} (at offset 1)"),
        (r"(\pL{0,500}|\pN{0,400})*", "pattern too large"),
        ("\ud800", "is not valid Unicode"),
        ("a" * 5000, "has 5000 characters"),
    ],
)
def test_what_cannot_be_used_is_named(pattern: str, expected: str):
    with pytest.raises(InvalidRequest) as raised:
        validate(JobSpec(paths=("s3://b/",), options=JobOptions(file_filter_regex=pattern)), live_workers=1)
    assert expected in raised.value.message
    assert raised.value.message.startswith("fileFilterRegex=")
    assert raised.value.remedy


def test_syntax_that_is_not_there_is_said():
    with pytest.raises(InvalidRequest, match="neither look-around nor back-references"):
        KeyFilter("a(?!b)")


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        (r".*\.jpe?g", "train/ä/1.jpg", True),
        (r".*\.jpe?g", "train/1.jpg.tmp", False),
        ("train", "train/", False),
        ("a|ab", "ab", True),
        ("a.b", "a\nb", False),
        ("(?i)TRAIN/.", "train/ü", True),
        (r"a\x00b", "a\x00b", True),
    ],
)
def test_the_whole_key_must_match(pattern: str, key: str, matches: bool):
    assert KeyFilter(pattern).matches(key) is matches


PIECES = st.sampled_from(["a", "b", ".", "[ab]", "ä", "(a|b)", "\\.", "a*", "b+", "c?", "a{2}"])


@given(st.lists(PIECES, max_size=6).map("".join), st.text(alphabet="abcä./", max_size=8))
def test_plain_expressions_match_as_in_python(pattern: str, key: str):
    assert KeyFilter(pattern).matches(key) is (re.fullmatch(pattern, key) is not None)
