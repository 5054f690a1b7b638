"""Which bytes a read may get: how fresh, and of which dataset version."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preheat.errors import InvalidRequest

_DIRECTIVE = r"(no-cache|only-if-cached|max-age=\d{1,10}|max-stale(=\d{1,10})?)"
_FRESHNESS = re.compile(rf"({_DIRECTIVE}(, ?{_DIRECTIVE})*)?")
_VERSION = re.compile(r"(sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a read asks for beyond what the mount's policy gives it; nothing by default."""

    freshness: str = ""
    """What ``Cache-Control`` says: ``no-cache``, ``max-age=60``, ``max-stale=60``, ``only-if-cached``, or several."""
    version: str = ""
    """The pinned dataset version to read, ``sha256:…``."""

    def __post_init__(self) -> None:
        if not _FRESHNESS.fullmatch(self.freshness):
            raise InvalidRequest(
                f"freshness={self.freshness!r} is unknown.",
                remedy="Use no-cache, max-age=60, max-stale=60 or only-if-cached.",
            )
        if not _VERSION.fullmatch(self.version):
            raise InvalidRequest(f"version={self.version!r} is not a dataset version, 'sha256:' and 64 hex digits.")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say so to a worker."""
        headers = {"Cache-Control": self.freshness, "X-Preheat-Version": self.version}
        return {name: value for name, value in headers.items() if value}

    @property
    def current_will_do(self) -> bool:
        """Whether what the under store has now satisfies it."""
        return not self.version and "only-if-cached" not in self.freshness
