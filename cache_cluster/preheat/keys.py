"""Keys of records in the engine about things whose names it would not take: paths, identities, what clients choose."""

from __future__ import annotations

import hashlib


def key_of(name: str) -> str:
    """Return the key of a name's record."""
    return hashlib.sha256(name.encode()).hexdigest()
