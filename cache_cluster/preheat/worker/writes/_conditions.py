"""Which version has to be there for a write to be done."""

from __future__ import annotations

from dataclasses import dataclass

from preheat.errors import VersionChanged
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

ANY = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What a writer asks of the present version."""

    if_match: str | None = None
    """Its etag, or ``*``: that there is one."""
    if_none_match: bool = False
    """That there is none."""

    @property
    def asks(self) -> bool:
        """Whether it is one at all."""
        return self.if_match is not None or self.if_none_match

    def check(self, path: UfsPath, current: ObjectInfo | None) -> None:
        """Return if it holds.

        Raises:
            VersionChanged: it does not; nothing is to be written.
        """
        if self.if_none_match and current is not None:
            raise VersionChanged(f"path='{path}' exists already.", remedy="Write without If-None-Match to replace it.")
        if self.if_match is None or (current is not None and self.if_match in (ANY, current.etag)):
            return
        found = "does not exist" if current is None else f"has the etag {current.etag!r} now"
        raise VersionChanged(f"path='{path}' {found}, not {self.if_match!r}.", remedy="Read it again before writing.")


ALWAYS = Condition()
"""Whatever is there."""
