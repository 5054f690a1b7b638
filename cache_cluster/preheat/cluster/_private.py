"""Files that only their owner may read: the cluster's secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whatever the umask and whatever was there."""
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text(text)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Return what a file holds, after making it if there is none."""
    if not path.exists():
        write_private(path, make())
    return path.read_text()
