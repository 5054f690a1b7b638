"""The coordinator's REST API, and the process that serves it."""

from preheat.api._app import run_coordinator

__all__ = ["run_coordinator"]
