"""What runs on a data directory: a JSON file that the supervisor keeps true, and a lock that it holds."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec

from preheat.cluster._process import ProcessIdentity
from preheat.cluster._settings import ClusterFiles
from preheat.errors import Conflict, PreheatError


@dataclass(frozen=True, kw_only=True)
class PartState:
    """One child process."""

    name: str
    url: str
    s3_url: str = ""
    """Of a worker: the endpoint for S3 clients, if it serves them."""
    process: ProcessIdentity | None
    """None while it waits for its restart, and when it was given up."""
    restarts: int
    given_up: bool
    log: str

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self.process is not None and self.process.alive


@dataclass(frozen=True, kw_only=True)
class ClusterState:
    """A cluster that `preheat up` started."""

    supervisor: ProcessIdentity
    ready: bool
    """Whether the start was complete; what lives now, each part tells."""
    url: str
    """The coordinator's base URL."""
    parts: tuple[PartState, ...]
    data_dir: str
    log_dir: str
    airflow_connection: str
    """What Airflow's environment needs to reach the cluster, as a shell takes it: a token is named by its file."""
    admin_token_file: str = ""
    """Holds the admin's token, if the cluster asks for tokens."""
    ca_file: str = ""
    """Whom to trust, if the cluster's certificates are not signed by an authority that the system knows."""

    @property
    def workers(self) -> tuple[PartState, ...]:
        """The workers among the parts."""
        return tuple(part for part in self.parts if part.name.startswith("worker-"))

    @property
    def healthy(self) -> bool:
        """Whether the start was complete and every part lives."""
        return self.ready and all(part.alive for part in self.parts)


def airflow_connection(url: str, *, token_file: str = "", ca_file: str = "") -> str:
    """Return the shell's assignment that connects Airflow's ``preheat_default`` to this coordinator.

    Without a secret in it: what is printed ends up in logs. The shell reads the token from its file.
    """
    parts = urlsplit(url)
    login = f":$(cat {shlex.quote(token_file)})@" if token_file else ""
    scheme = "/https" if parts.scheme == "https" else ""
    extra = f"?{urlencode({'ca_cert': ca_file})}" if ca_file else ""
    uri = f"preheat://{login}{parts.netloc}{scheme}{extra}"
    quoted = f'"{uri}"' if login or extra else uri
    return f"AIRFLOW_CONN_PREHEAT_DEFAULT={quoted}"


def write_state(path: Path, state: ClusterState) -> None:
    """Replace the file, so that a reader sees the old state or the new one."""
    fresh = path.with_suffix(".json.new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    fresh.replace(path)


def read_state(path: Path) -> ClusterState | None:
    """Return the state of the cluster that runs now; none if its supervisor does not live.

    Raises:
        PreheatError: the file is not one that `preheat up` wrote.
    """
    try:
        state = msgspec.json.decode(path.read_bytes(), type=ClusterState)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise PreheatError(f"{path} cannot be read: {error}.", remedy="Delete it if no cluster runs.") from error
    return state if state.supervisor.alive else None


@contextmanager
def hold_lock(files: ClusterFiles) -> Iterator[None]:
    """Hold the data directory for this process; the kernel lets go of it however the process ends.

    Raises:
        Conflict: another supervisor holds it.
    """
    with files.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Conflict(
                f"A cluster runs on {files.root} already (pid {lock.read().strip() or 'not known yet'}).",
                remedy=f"Stop it with `preheat down --data-dir {files.root}`, or take another --data-dir.",
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
