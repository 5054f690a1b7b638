"""Logs for two readers: a sentence for people, and a stable ``action`` with fields for machines."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(*, json: bool | None = None) -> None:
    """Write logs to standard error: for people on a terminal, as JSON lines otherwise (or as ``json`` says)."""
    as_json = json if json is not None else not sys.stderr.isatty()
    # Plain tracebacks: the fancy ones print local variables, and with them secrets.
    for_people = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if as_json else [for_people]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger; use as ``log.info("A sentence.", action="job_started", job=job_id)``."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(component=name)
    return logger
