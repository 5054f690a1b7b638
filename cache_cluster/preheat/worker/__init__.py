"""The worker: executes batches, keeps the page store, serves reads."""

from preheat.worker._app import run_worker

__all__ = ["run_worker"]
