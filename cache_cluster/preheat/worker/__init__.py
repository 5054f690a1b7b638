"""The worker: executes batches, keeps the page store, serves reads."""

from preheat.worker._app import run_worker
from preheat.worker._leave import leave

__all__ = ["leave", "run_worker"]
