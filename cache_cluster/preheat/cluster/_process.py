"""Processes of this machine: starting them so that they end with their parent, and knowing them again."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIdentity:
    """A pid and when its process started: a pid alone is given to another process later."""

    pid: int
    start_time: int
    """Clock ticks since boot."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return who has this pid now; none if nobody has, or only a zombie."""
        start_time = read_start_time(pid)
        return None if start_time is None else cls(pid=pid, start_time=start_time)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return read_start_time(self.pid) == self.start_time


def read_start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; none if it does not run."""
    try:
        return parse_start_time(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def parse_start_time(stat: str) -> int | None:
    """Read field 22 of ``/proc/PID/stat``; none for a process that ended and only waits to be reaped."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return None if fields[0] in "ZX" else int(fields[19])


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a child that appends its output to ``log`` and is killed by the kernel when this process ends."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the commands are the supervisor's own
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C in the terminal reaches the supervisor alone, which stops them in order
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - the supervisor has one thread
        )


def stop_gracefully(identity: ProcessIdentity, *, seconds: float) -> bool:
    """Ask a process to end and kill it when ``seconds`` have passed; false if it had ended before."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process, so that what is checked here is what is signalled.
        if not identity.alive:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], seconds)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], seconds)
        return True
    finally:
        os.close(descriptor)


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child does before its program starts.

    PR_SET_PDEATHSIG outlives exec, so that even ``kill -9`` of the supervisor leaves no process behind. It is
    set in the child, because it belongs to the process that asks for it; the parent is compared afterwards,
    because it may have ended in between. SIGKILL loses nothing: all state is durable. The signals that the
    supervisor blocks, to wait for them, are unblocked, because a child inherits its mask.
    """

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.getppid() != parent:
            os._exit(1)

    return prepare
