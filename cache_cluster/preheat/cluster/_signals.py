"""Signals as messages: blocked, and taken one by one where it suits, so that no handler interrupts."""

from __future__ import annotations

import signal
from typing import Self


class SignalInbox:
    """Collects requests to stop and deaths of children while it is open; for the main thread."""

    def __init__(self) -> None:
        self._stop = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self._stop.add(signal.SIGHUP)
        self._watched = self._stop | {signal.SIGCHLD}
        self._previous: set[signal.Signals | int] = set()

    def __enter__(self) -> Self:
        self._previous = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._watched))
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous)

    def wait(self, seconds: float) -> bool:
        """Wait for the next signal, ``seconds`` at most; return whether it asks to stop."""
        received = signal.sigtimedwait(self._watched, max(0.0, seconds))
        return received is not None and received.si_signo in self._stop
