"""The coordinator's REST API, and the process that serves it."""

from preheat.api._app import create_app, run_coordinator

__all__ = ["create_app", "run_coordinator"]
