"""``make demo`` without make: what a stranger runs first."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEFAULT_PORTS = (19999, 28080, 28081, 29998, 4222, 8080, 8333, 8793, 8794)


@pytest.fixture
def default_ports_taken() -> Iterator[None]:
    """Something listens on every port that one of the parts takes by default."""
    with contextlib.ExitStack() as stack:
        for port in DEFAULT_PORTS:
            with contextlib.suppress(OSError):  # taken already, by whomever
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )


def processes_with(variable: str) -> list[str]:
    """Return the command lines of the processes that have a variable in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended, is no process, or is not ours
            if variable.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.usefixtures("default_ports_taken")
def test_the_demo_ends_with_its_numbers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    marker = uuid.uuid4().hex
    pictures = ["--screenshots", str(tmp_path)] if shutil.which("chromium") else []

    demo = run_demo(*pictures, DEMO_TEST=marker)

    assert demo.returncode == 0, demo.stdout
    rows = dict(line.strip("│ ").split("│") for line in demo.stdout.splitlines() if line.count("│") == 3)
    table = {name.strip(): value.strip() for name, value in rows.items()}
    assert table["files"] == "1,800"
    assert table["cache hits during training"] == "1,797 of 1,797"
    assert table["origin reads during training"] == "0"
    assert float(table["accuracy"].rstrip("%")) > 95
    assert processes_with(f"DEMO_TEST={marker}") == []
    if pictures:
        assert {picture.name for picture in tmp_path.iterdir()} == {"nightly_warmup.png", "train_on_warm_dataset.png"}


def test_a_failing_demo_says_what_failed_and_where_its_logs_are() -> None:
    demo = run_demo("--screenshots", "nowhere", PATH="/nonexistent")

    assert demo.returncode == 1
    assert "no browser in PATH" in demo.stdout
    logs = Path(demo.stdout.partition("The logs are in ")[2].strip().rstrip("."))
    assert logs.parent == ROOT / ".demo"
    assert "BrowserError" in (logs / "error.txt").read_text()
    shutil.rmtree(logs)
