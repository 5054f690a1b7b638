"""What a worker counts of its reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(kw_only=True, slots=True)
class Counters:
    """What a worker read since it started."""

    hits: int = 0
    misses: int = 0
    hit_bytes: int = 0
    miss_bytes: int = 0
    origin_reads: int = 0
    """GETs of objects for readers and jobs alike."""
    load_reads: int = 0
    """Those of them that jobs began."""
    origin_bytes: int = 0
    origin_lists: int = 0
    origin_stats: int = 0
    origin_throttled: int = 0
    """Times that the under store asked to slow down."""
    origin_errors: int = 0
    """Fetches that failed because it did not answer, or not with all bytes."""
    origin_corrupt: int = 0
    """Fetches of bytes that did not match its own checksum."""
    peer_reads: int = 0
    """Objects, or ranges of them, that another worker sent in the under store's place."""
    peer_bytes: int = 0
    read_through: int = 0
    """Reads that were served from the under store because the page store could not take the object."""
    checks: int = 0
    """Times that the under store was asked whether what is known of an object is current; part of ``origin_stats``."""
    checks_changed: int = 0
    """Those of them that found another version than the cached one."""
    checks_gone: int = 0
    """Those that found no object where one is cached."""
    drifted: int = 0
    """Objects that a read found changed or gone at the under store: by a check, or because their pinned version is."""
    metadata_hits: int = 0
    """Listings, and looks at one object, that were answered from what a job had listed."""

    forwarded_reads: int = 0
    """Objects, or ranges of them, that their owner sent for a reader who came to this worker."""
    forwarded_bytes: int = 0
    forward_unreachable: int = 0
    """Owners that nobody could connect to; those were left out for a while, and the read was done here."""
    forward_silent: int = 0
    """Owners that were silent."""
    forward_broken: int = 0
    """Owners that broke off."""
    forward_refused: int = 0
    """Owners that said they could not, or what made no sense."""
    forward_changed: int = 0
    """Owners that broke off because the version was no more; these are not left out, and the read ends."""

    def count_forward_failure(self, reason: str) -> None:
        """Count an owner that did not send what it was asked for, by the end of a counter's name."""
        name = f"forward_{reason}"
        setattr(self, name, getattr(self, name) + 1)

    def named(self) -> dict[str, int]:
        """Return the counters by their names in JSON."""
        return {_camel(name): count for name, count in asdict(self).items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
