"""Keeps a cluster's processes alive: starts them in order, restarts what dies, stops them in reverse order.

One thread, because children are bound to the thread that started them (PR_SET_PDEATHSIG), and no handlers:
the supervisor sleeps until a signal comes or a restart is due.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from preheat.cluster._plan import Part, Plan
from preheat.cluster._process import ProcessIdentity, spawn
from preheat.cluster._ready import missing_engine, missing_part
from preheat.cluster._restarts import RestartPolicy, Restarts
from preheat.cluster._signals import SignalInbox
from preheat.cluster._state import PartState
from preheat.errors import Unavailable

_PROBE_EVERY_SECONDS = 0.1
_IDLE_SECONDS = 60.0
_KILL_SECONDS = 10.0
_LOG_LINES = 15


class StopRequested(Exception):
    """A signal asked the supervisor to stop."""


class Supervisor:
    """Runs one :class:`Plan`. Open it as a context manager: leaving it stops every process."""

    def __init__(
        self,
        plan: Plan,
        *,
        inbox: SignalInbox,
        report: Callable[[str], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        self._plan = plan
        self._inbox = inbox
        self._report = report
        self._children = [Child(part, policy or RestartPolicy()) for part in plan.parts]
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever a child started, died or was given up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def states(self) -> tuple[PartState, ...]:
        """The children as they are now."""
        return tuple(child.state for child in self._children)

    def start(self, *, seconds: float) -> None:
        """Start everything and return when the cluster is ready.

        Raises:
            Unavailable: a part was given up, or ``seconds`` have passed; the remedy holds its last log lines.
            StopRequested: a signal came first.
        """
        deadline = time.monotonic() + seconds
        nats, *others = self._children
        self._launch(nats)
        self._wait_until_nothing_misses(missing_engine, deadline)
        for child in others:
            self._launch(child)
        self._wait_until_nothing_misses(missing_part, deadline)

    def run(self) -> None:
        """Restart what dies until a signal asks to stop."""
        with suppress(StopRequested):
            while True:
                self._tend(_IDLE_SECONDS)

    def _wait_until_nothing_misses(self, missing: Callable[[Plan], str], deadline: float) -> None:
        while problem := missing(self._plan):
            self._tend(_PROBE_EVERY_SECONDS)
            dead = next((child for child in self._children if child.given_up), None)
            if dead is not None:
                raise _not_ready(f"{dead.part.name} {dead.last_exit}, {dead.restarts.total} times", dead.part)
            if time.monotonic() > deadline:
                raise _not_ready(problem, self._part_named_in(problem))

    def _part_named_in(self, problem: str) -> Part:
        named = (part for part in self._plan.parts if problem.startswith(part.name))
        return next(named, self._plan.coordinator)

    def _tend(self, seconds: float) -> None:
        """Wait for a signal or a due restart, then bury and revive children."""
        due = [child.restart_at - time.monotonic() for child in self._children if child.restart_at is not None]
        if self._inbox.wait(min([seconds, *due])):
            raise StopRequested
        for child in self._children:
            if child.reap():
                self._report(child.obituary)
                self.on_change()
            elif child.restart_at is not None and child.restart_at <= time.monotonic():
                self._launch(child)

    def _launch(self, child: Child) -> None:
        child.launch()
        self.on_change()

    def _stop(self) -> None:
        nats, coordinator, *workers = self._children
        for group in (workers, [coordinator], [nats]):
            self._stop_together([child for child in group if child.running])

    def _stop_together(self, children: list[Child]) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + max((child.part.stop_seconds for child in children), default=0)
        hurried = False
        while any(child.running for child in children) and time.monotonic() < deadline and not hurried:
            hurried = self._inbox.wait(deadline - time.monotonic())
        _kill(child for child in children if child.running)


class Child:
    """One part's process over its restarts."""

    def __init__(self, part: Part, policy: RestartPolicy) -> None:
        self.part = part
        self.restarts = Restarts()
        self.restart_at: float | None = None
        """On the monotonic clock; none while it runs, and when it was given up."""
        self.last_exit = ""
        self._policy = policy
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def given_up(self) -> bool:
        """Whether it died too often to be started again."""
        return self.restarts.total > 0 and self._process is None and self.restart_at is None

    @property
    def state(self) -> PartState:
        """What the state file tells about it."""
        return PartState(
            name=self.part.name,
            url=self.part.url,
            s3_url=self.part.s3_url,
            process=ProcessIdentity.of(self._process.pid) if self._process else None,
            restarts=self.restarts.total,
            given_up=self.given_up,
            log=str(self.part.log),
        )

    @property
    def obituary(self) -> str:
        """What to tell people after a death."""
        if self.restart_at is None:
            return f"{self.part.name} {self.last_exit} and keeps dying: given up. See {self.part.log}."
        seconds = max(0.0, self.restart_at - time.monotonic())
        return f"{self.part.name} {self.last_exit}; restarting it in {seconds:.1f} s. See {self.part.log}."

    def launch(self) -> None:
        """Start the process."""
        self.restart_at = None
        self._started_at = time.monotonic()
        self._process = spawn(self.part.command, environment=self.part.environment, log=self.part.log)

    def reap(self) -> bool:
        """Notice a death and plan the restart; return whether there was one."""
        if self._process is None or self._process.poll() is None:
            return False
        self.last_exit = describe_exit(self._process.returncode)
        self._process = None
        now = time.monotonic()
        self.restarts = self.restarts.after_death(lived_seconds=now - self._started_at, policy=self._policy)
        delay = self.restarts.delay(self._policy)
        self.restart_at = None if delay is None else now + delay
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> None:
        """Wait for the end of a process that was killed."""
        if self._process is not None:
            self._process.wait(seconds)


def describe_exit(returncode: int) -> str:
    """Say how a process ended: ``exited with 1`` or ``was killed by SIGKILL``."""
    if returncode >= 0:
        return f"exited with {returncode}"
    return f"was killed by {signal.Signals(-returncode).name}"


def last_lines(log: Path, count: int = _LOG_LINES) -> list[str]:
    """Return the end of a log; nothing if there is none."""
    try:
        with log.open(errors="replace") as lines:
            return [line.rstrip() for line in deque(lines, count)]
    except FileNotFoundError:
        return []


def _kill(children: Iterable[Child]) -> None:
    doomed = list(children)
    for child in doomed:
        child.signal(signal.SIGKILL)
    for child in doomed:
        child.wait(_KILL_SECONDS)


def _not_ready(problem: str, part: Part) -> Unavailable:
    tail = "".join(f"\n  {line}" for line in last_lines(part.log))
    return Unavailable(
        f"The cluster did not become ready: {problem.removesuffix('.')}.",
        remedy=f"See {part.log}" + (f"; it ends with:{tail}" if tail else "; it is empty."),
    )
