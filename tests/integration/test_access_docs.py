"""The commands of docs/how-to/secure-a-cluster.md, run as they stand there, on addresses of the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.certificates import Authority
from testbed.nats import run_nats
from testbed.ports import free_ports
from testbed.processes import ChildProcess, listens

PAGE = Path(__file__).parents[2] / "docs/how-to/secure-a-cluster.md"
SERVERS = ("preheat coordinator ", "preheat worker ")
COMMAND_SECONDS = 120


def commands(section: str) -> list[str]:
    """Return the lines of a section's bash blocks."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    return [line for block in blocks for line in block.splitlines()]


class Shell:
    """Runs lines one after the other, with the variables that earlier ones exported; servers in the background."""

    def __init__(self, directory: Path, replaced: dict[str, str]) -> None:
        self.directory = directory
        self.ports = {name: port for name, port in replaced.items() if name.isdigit()}
        self.replaced = replaced
        self.servers = contextlib.ExitStack()
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREHEAT_")}
        self._environment = {
            **own,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREHEAT_DATA_DIR": str(directory / "data"),
        }

    def run(self, line: str) -> str:
        for name, value in self.replaced.items():
            line = line.replace(name, value)
        if line.startswith(SERVERS):
            self._serve(line)
            return ""
        exported = re.match(r"export (\w+)=", line)
        script = f'{line}; printf %s "${exported[1]}"' if exported else line
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if exported:
            self._environment[exported[1]] = done.stdout
        return done.stdout

    def _serve(self, line: str) -> None:
        port = re.search(r"--public-url https://127\.0\.0\.1:(\d+)", line)
        assert port
        command = ["bash", "-euc", f"exec {line} --port {port[1]}"]
        log = self.directory / f"server-{port[1]}.log"
        process = ChildProcess(command, log=log, env=self._environment, cwd=self.directory)
        self.servers.enter_context(process)
        process.wait_ready(listens(int(port[1])))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    tls = Authority.make(tmp_path).issue("server", "127.0.0.1")
    assert (tls.cert, tls.key, tls.ca) == tuple(tmp_path / name for name in ("server.pem", "server.key", "ca.pem"))
    ports = dict(zip(("19999", "28080"), map(str, free_ports(2)), strict=True))
    shell = Shell(tmp_path, ports)
    with shell.servers:
        yield shell


def test_one_machine_and_its_tokens(shell: Shell):
    shell.servers.callback(shell.run, "preheat down")
    shell.run(f"export PREHEAT_PORT={shell.ports['19999']}")
    shell.run(f"export PREHEAT_WORKER_PORT={shell.ports['28080']}")
    for line in [*commands("On one machine"), *commands("Tokens for people and programs")]:
        printed = shell.run(line)
        if line == "preheat token ls":
            assert "nightly-warmup" in printed
            assert "s3://datasets/images/" in printed


def test_several_machines(shell: Shell):
    config = f"""
        authorization {{ token: "secret" }}
        tls {{ cert_file: "{shell.directory}/server.pem", key_file: "{shell.directory}/server.key" }}
    """
    with run_nats(shell.directory / "nats", config) as address:
        shell.replaced["nats-0.example.com:4222"] = address
        shell.run("export PREHEAT_CA_FILE=$PWD/ca.pem")
        for line in commands("On several machines"):
            shell.run(line)
        shell.servers.close()
