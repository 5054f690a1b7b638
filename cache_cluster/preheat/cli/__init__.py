"""The command line: ``preheat``. Each command is a function; errors become exit codes in :mod:`preheat.cli._errors`."""

from preheat.cli._app import main

__all__ = ["main"]
