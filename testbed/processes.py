"""Child processes that write to a log file, say when they are ready, and never outlive the process that made them.

``setpriv --pdeathsig`` (util-linux) asks the kernel to kill the child when its parent is gone, whatever ended it. The
kernel counts the *thread* that started the child as its parent, so start children from a thread that stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_POLL_SECONDS = 0.02
_PROBE_SECONDS = 2.0
_TAIL_LINES = 20
_TAIL_BYTES = 16_384
_SERVER_ERROR = 500


class StartupError(RuntimeError):
    """A process ended, or was not ready at its deadline; the message ends with the last lines of its log."""


class ChildProcess:
    """A program that runs until it is stopped; use it as a context manager.

    Args:
        command: the program and its arguments.
        log: file that receives stdout and stderr, appended.
        env: variables to set on top of this process's own.
        cwd: working directory.
        name: what to call it in errors; by default the program's file name.
        grace: seconds between SIGTERM and SIGKILL when it is stopped.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str = "",
        grace: float = 10.0,
    ) -> None:
        self.name = name or Path(command[0]).name
        self.log = log
        self._grace = grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_die_with_parent(), *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,  # Ctrl-C reaches us only, and we stop our children in order
            )

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait_ready(self, ready: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Wait until ``ready()`` is true; see :func:`answers`, :func:`listens` and :func:`logged`.

        Raises:
            StartupError: the process ended first, or ``timeout`` seconds passed.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise StartupError(f"{self.name} ended with status {self.returncode}.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartupError(f"{self.name} was not ready after {timeout:g} s.\n{self.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def wait(self, timeout: float) -> int:
        """Return the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        return self._process.wait(timeout)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, and no more."""
        self._process.terminate()

    def stop(self) -> None:
        """End it: SIGTERM, then after the grace time SIGKILL to its whole process group. Idempotent."""
        if self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the kill below is the answer
                self._process.wait(self._grace)
        self.kill()

    def kill(self) -> None:
        """End it and its process group with SIGKILL, as a crash would. Idempotent."""
        with contextlib.suppress(ProcessLookupError):  # nothing of the group is left
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(_PROBE_SECONDS)

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the log, after a line that says where the log is."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join([f"The end of {self.log}:", *text.splitlines()[-lines:]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(url: str) -> Callable[[], bool]:
    """Return a probe: the URL answers, with any status below 500 (a 403 is an answer too)."""

    def probe() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=_PROBE_SECONDS) as response:
                return bool(response.status < _SERVER_ERROR)
        except urllib.error.HTTPError as error:
            with error:
                return error.code < _SERVER_ERROR
        except OSError:
            return False

    return probe


def listens(port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """Return a probe: the port accepts a connection."""

    def probe() -> bool:
        try:
            socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
        except OSError:
            return False
        return True

    return probe


def logged(log: Path, text: str) -> Callable[[], bool]:
    """Return a probe: the log file contains the text."""
    return lambda: log.exists() and text in log.read_text(errors="replace")


def _die_with_parent() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
