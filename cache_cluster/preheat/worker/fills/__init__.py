"""Fills: how objects come into a worker's page store, from the under store or from another worker."""

from preheat.worker.fills._counters import Counters
from preheat.worker.fills._fill import Fill, Source, Throttle
from preheat.worker.fills._fills import Fills
from preheat.worker.fills._peers import Candidates, Owners, Peers
from preheat.worker.fills._pieces import FOR_READERS
from preheat.worker.fills._transfers import check_version

__all__ = [
    "FOR_READERS",
    "Candidates",
    "Counters",
    "Fill",
    "Fills",
    "Owners",
    "Peers",
    "Source",
    "Throttle",
    "check_version",
]
