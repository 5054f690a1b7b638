"""Filters on keys: regular expressions that cannot backtrack.

RE2 matches in time linear in the key's length and in bounded memory, whatever the expression; Python's ``re`` needs
time exponential in it for some. In return there is no look-around and no back-reference.
"""

from __future__ import annotations

import re2

from preheat.errors import InvalidRequest

_MAX_PATTERN = 4096
_MEMORY_BYTES = 1 << 20
"""Bounds the compiled program, and so the time for one key: a few milliseconds at the worst."""
_SYNTAX_REMEDY = "Write it in the syntax of RE2, which has neither look-around nor back-references."


class KeyFilter:
    """A regular expression that a key must match in full.

    Args:
        pattern: in the syntax of RE2; a dot matches no line break.
        field: what the errors call the pattern.

    Raises:
        InvalidRequest: the pattern cannot be used; the message names it, and where it fails.
    """

    def __init__(self, pattern: str, *, field: str = "fileFilterRegex") -> None:
        if len(pattern) > _MAX_PATTERN:
            raise InvalidRequest(
                f"{field}={pattern[:80]!r}… has {len(pattern)} characters.", remedy=f"At most {_MAX_PATTERN} can be."
            )
        try:
            self._expression = re2.compile(pattern, _options())
        except re2.error as error:
            raise InvalidRequest(f"{field}={pattern!r}: {_reason(error, pattern)}.", remedy=_SYNTAX_REMEDY) from error
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{field}={pattern!r} is not valid Unicode.", remedy=_SYNTAX_REMEDY) from error

    def matches(self, key: str) -> bool:
        """Whether the expression matches the whole key."""
        return self._expression.fullmatch(key.encode()) is not None


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False  # to stderr, apart from our logs
    return options


def _reason(error: Exception, pattern: str) -> str:
    """Return what RE2 says, and where the part of the pattern that it cites begins."""
    said = error.args[0].decode(errors="replace")
    cited = said.partition(": ")[2]
    return f"{said} (at offset {pattern.find(cited)})" if cited and cited in pattern else said
