"""`preheat up --config`: a file that changes by a swap of links, as a ConfigMap does, and a start on what there was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60.0
DECLARED = """
[datasets.{name}]
path = "file://{origin}/"
preload = {{ enabled = true }}
"""


@dataclass
class Up:
    """A cluster that reads a file through a link."""

    directory: Path
    environment: dict[str, str]

    def preheat(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "preheat.cli", *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        return done.stdout

    def start(self) -> None:
        self.preheat("up", "--config", "preheat.toml", "--detach")
        state = json.loads((self.directory / "data" / "cluster.json").read_text())
        self.environment["PREHEAT_COORDINATOR_URL"] = state["url"]

    def declare(self, name: str) -> None:
        target = self.directory / f"{name}.toml"
        target.write_text(DECLARED.format(name=name, origin=self.directory / "origin"))
        (self.directory / "fresh").symlink_to(target.name)
        (self.directory / "fresh").replace(self.directory / "preheat.toml")

    def datasets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.preheat("dataset", "ls", "--json"))["datasets"]
        return found

    def until(self, fulfilled: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + SECONDS
        while not fulfilled(found := self.datasets()):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "0").write_text("x")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREHEAT_")}
    ports = {"PREHEAT_PORT": "0", "PREHEAT_WORKER_PORT": "0"}
    running = Up(tmp_path, own | ports | {"PREHEAT_DATA_DIR": str(tmp_path / "data")})
    yield running
    running.preheat("down")


def loaded(name: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: [(item["name"], item["status"]["phase"]) for item in found] == [(name, "Loaded")]


@pytest.mark.long
def test_a_file_is_followed_through_its_link_and_over_a_restart(up: Up):
    up.declare("first")
    up.start()
    up.until(loaded("first"))
    up.declare("second")
    (before,) = up.until(loaded("second"))
    up.preheat("down")
    up.start()
    (after,) = up.until(loaded("second"))
    assert (after["declaredBy"], after["declaredAt"]) == ("file", before["declaredAt"])
    assert (after["status"]["lastSuccess"], after["status"]["jobId"]) == (
        before["status"]["lastSuccess"],
        before["status"]["jobId"],
    )
