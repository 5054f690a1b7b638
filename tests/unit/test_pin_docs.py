"""The commands of docs/how-to/pin-a-dataset-version.md, run as they stand there, and what it shows of their output."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

from tests.unit.memory_cluster import Cluster

PAGE = (Path(__file__).parents[2] / "docs/how-to/pin-a-dataset-version.md").read_text()
ROOT = "s3://datasets/images/"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def shape(text: str) -> list[str]:
    """Return the words of an output, without what differs each time."""
    for pattern in (r"[0-9a-f]{32,}", r"\d{4}-\d\d-\d\d [\d:]{8}"):
        text = re.sub(pattern, "…", text)
    return text.split()


async def test_the_page_runs(cluster: Cluster, url: str, run):
    for number in range(10):
        cluster.origin.write(f"{ROOT}{number:04d}.jpg", b"object %d" % number)
    printed = dict[str, str]()
    for line in "".join(blocks("bash")).splitlines():
        command, _, remark = line.partition("  # ")
        program, *arguments = shlex.split(command)
        if program == "aws":
            cluster.origin.write(arguments[-1], b"new")
            continue
        ended = await asyncio.to_thread(run, *arguments)
        assert ended.code == (1 if remark == "exits 1" else 0), (line, ended)
        printed[line] = ended.out
    (shown,) = blocks("text")
    assert shape(printed[f"preheat fs drift {ROOT}  # exits 1"]) == shape(shown)
    assert cluster.cached(f"{ROOT}0003.jpg") == [b"new"]
