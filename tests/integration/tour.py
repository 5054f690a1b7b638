"""The tour of the docs, run for real: ``python -m tests.integration.tour`` writes its outputs anew.

A page's ``console`` blocks hold commands (``$ …``) and what they printed. The commands run one after the other against
a real cluster and a real S3 server on free ports; addresses, directories and ids are put in the place of those shown.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from testbed import JuiceFSGateway, free_port

PAGE = Path(__file__).parents[2] / "docs" / "tour.md"
_COMMAND_SECONDS = 120
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{12}\b")
"""Of a job, or of a token."""
_VARIES = (
    (_ID, "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d:\d{3}"), "TIME"),
    (re.compile(r'("(?:trace|revision|after|epoch)": ?)("[0-9a-f]+"|\d+)'), r"\1N"),
    (re.compile(r"Load Avg: [\d., ]+"), "Load Avg: N"),
    (re.compile(r"(Active Tasks: |pid )\d+ *"), r"\1N "),
    (re.compile(r"^(nats-server|coordinator|worker-\d) +\d+", re.MULTILINE), r"\1 PID"),
    (re.compile(r"nats://127.0.0.1:\d+"), "ENGINE"),
    (re.compile(r"^id: \d+", re.MULTILINE), "id: N"),
    (re.compile(r"^Forecast: .*\n", re.MULTILINE), ""),  # of a job that runs: none until some of it is done
    (re.compile(r"[━╸╺]+"), "BAR"),
    (re.compile(r"[\d.]+ ?[KMG]?i?B/s(?= -?\d:)"), ""),  # a bar's rate: there may be none
    (re.compile(r"[\d.]+ ?[KMG]?i?B/s"), "RATE"),
    (re.compile(r"-?\d:\d\d:\d\d|-:--:--"), "ETA"),
    (re.compile(r"\b[\d.]+ (s|ms|m \d\d s)\b"), "SPAN"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)
_NUMBER = re.compile(r"[\d.]+( ?[KMG]i?B| B)?( files?)?\b")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command and what it printed."""

    command: str
    output: str
    loose: bool
    """Its numbers depend on the moment: what stands before the block is ``<!-- varies -->``."""

    @property
    def text(self) -> str:
        """Return the step as the page shows it."""
        return f"$ {self.command}\n{self.output}"

    def steady(self, output: str) -> str:
        """Return an output without what differs between two runs."""
        for pattern, name in _VARIES:
            output = pattern.sub(name, output)
        return _NUMBER.sub("N", output) if self.loose else output


def steps_of(page: str) -> list[Step]:
    """Return the commands of a page, and what it says that they print."""
    steps = []
    for block in _BLOCK.finditer(page):
        loose = page[: block.start()].rstrip().endswith("<!-- varies -->")
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n", "\0", part).partition("\n")
            steps.append(Step(command=command.replace("\0", "\\\n"), output=output, loose=loose))
    return steps


def with_steps(page: str, steps: list[Step]) -> str:
    """Return a page with other commands and outputs in the place of its own."""
    rest = iter(steps)

    def block(match: re.Match[str]) -> str:
        count = len(re.findall(r"^\$ ", match[1], flags=re.MULTILINE))
        return "```console\n" + "".join(next(rest).text for _ in range(count)) + "```"

    return _BLOCK.sub(block, page)


@dataclass
class Tour:
    """Runs commands as a reader of the page would, at other addresses."""

    data_dir: Path
    environment: Mapping[str, str]
    places: dict[str, str]
    """What the page shows → what it is here."""
    ids: dict[str, str] = field(default_factory=dict)
    """An id that the page shows → the one of this run."""

    def run(self, step: Step) -> str:
        """Run a step's command and return what it printed, as the page would show it."""
        done = subprocess.run(
            ["bash", "-c", self._here(step.command)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        self._learn_ports()
        output = self._shown(done.stdout)
        if output and not output.endswith("\n"):
            output += "\n"
        self._learn_ids(step.output, output)
        return output

    def told_anew(self, step: Step) -> Step:
        """Run a step and return it as it went this time."""
        output = self.run(step)
        return replace(step, command=self._with_ids(step.command), output=output)

    def _learn_ids(self, shown: str, printed: str) -> None:
        shown_ids, printed_ids = _ID.findall(shown), _ID.findall(printed)
        if len(shown_ids) == len(printed_ids):
            self.ids |= dict(zip(shown_ids, printed_ids, strict=True))

    def _learn_ports(self) -> None:
        """Find the workers, which took free ports."""
        state = self.data_dir / "cluster.json"
        if state.exists():
            workers = [part for part in json.loads(state.read_text())["parts"] if part["name"].startswith("worker-")]
            for number, worker in enumerate(workers):
                self.places[f"127.0.0.1:{28080 + number}"] = worker["url"].removeprefix("http://")
                self.places[f"127.0.0.1:{29998 + number}"] = worker["s3_url"].removeprefix("http://")

    def _with_ids(self, command: str) -> str:
        return _ID.sub(lambda found: self.ids.get(found[0], found[0]), command)

    def _here(self, command: str) -> str:
        command = self._with_ids(command)
        for shown, actual in self.places.items():
            command = command.replace(shown, actual)
        return command

    def _shown(self, output: str) -> str:
        for shown, actual in self.places.items():
            output = output.replace(actual, shown)
        return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


@contextmanager
def touring(directory: Path, server: JuiceFSGateway) -> Iterator[Tour]:
    """Prepare what the page takes for granted, and end the cluster if a command left it running."""
    data_dir, port = directory / "data", free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREHEAT_", "AWS_"))}
    environment |= server.environment() | {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "PREHEAT_DATA_DIR": str(data_dir),
        "PREHEAT_PORT": str(port),
        "PREHEAT_WORKER_PORT": "0",
        "PREHEAT_COORDINATOR_URL": f"http://127.0.0.1:{port}",
        "COLUMNS": "118",
        "TZ": "UTC",
    }
    places = {
        "~/.local/share/preheat": str(data_dir),
        "127.0.0.1:19999": f"127.0.0.1:{port}",
        "127.0.0.1:9000": server.endpoint.removeprefix("http://"),
    }
    try:
        yield Tour(data_dir, environment, places)
    finally:
        down = [Path(sys.executable).with_name("preheat"), "down"]
        subprocess.run(down, env=environment, capture_output=True, check=True, timeout=_COMMAND_SECONDS)


def fill(client: Any) -> None:
    """Put the datasets of the page into a new S3 server."""
    client.create_bucket(Bucket="datasets")
    for number in range(120):
        client.put_object(Bucket="datasets", Key=f"digits/{number:03}.png", Body=bytes([number]) * 4096)
    for number in range(12):
        client.put_object(Bucket="datasets", Key=f"video/{number:02}.mp4", Body=bytes([number]) * (1 << 20))
    names = "".join(f"s3://datasets/{name}\n" for name in ("video/00.mp4", "digits/000.png", "labels/000.txt"))
    client.put_object(Bucket="datasets", Key="tonight.txt", Body=names.encode())
    client.put_object(Bucket="datasets", Key="incoming/000.txt", Body=b"a zero\n")


def main() -> None:
    """Run the page's commands and write down what they print now."""
    page = PAGE.read_text()
    with TemporaryDirectory() as name, JuiceFSGateway(Path(name) / "s3") as server:
        fill(server.client())
        with touring(Path(name), server) as tour:
            steps = [tour.told_anew(step) for step in steps_of(page)]
    PAGE.write_text(with_steps(page, steps))


if __name__ == "__main__":
    main()
