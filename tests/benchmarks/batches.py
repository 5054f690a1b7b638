"""Many small objects from one worker, by batches, and from nginx, by one GET each."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from preheat.placement import Member
from tests.benchmarks.bench import Bench, WrongResultError
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import BUCKET, content
from tests.benchmarks.metering import Meter
from tests.benchmarks.peers import run

WORK = "batch"


def batch_keys(bench: Bench, worker: Member) -> list[str]:
    """Return the keys of tiny objects that a worker holds, and give nginx the same objects as files."""
    tiny, wanted = bench.settings.tiny, bench.settings.batch_count
    candidates = tiny.sample(4 * wanted)
    keys = [key for key, owner in zip(candidates, bench.owners(candidates), strict=True) if owner == worker][:wanted]
    for key in keys:
        file = bench.nginx_files / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(key, tiny.size))
    return keys


def read_with_preheat(bench: Bench, keys: Sequence[str], worker: Member) -> Sample:
    """Read objects by batches of a thousand."""
    uris = [f"s3://{BUCKET}/{key}" for key in keys]
    return _read(bench, keys, system=OURS, pids={worker.id: bench.pids[worker.id]}, url=worker.url, objects=uris)


def read_with_nginx(bench: Bench, keys: Sequence[str]) -> Sample:
    """Read the same objects from nginx."""
    url, pids = f"http://127.0.0.1:{bench.nginx_port}", {"nginx": bench.nginx.pid}
    return _read(bench, keys, system="nginx", pids=pids, url=url, objects=[f"/{key}" for key in keys])


def _read(
    bench: Bench, keys: Sequence[str], *, system: str, pids: dict[str, int], url: str, objects: Sequence[str]
) -> Sample:
    file = bench.directory / "batch.json"
    file.write_text(json.dumps(objects))
    seconds = str(bench.settings.serve_seconds)
    command: list[str | Path] = [
        *(sys.executable, "-m", "tests.benchmarks.batch_reading", "--url", url, "--objects", file),
        *("--seconds", seconds, *(["--gets"] if system != OURS else [])),
    ]
    with Meter(pids) as meter:
        result = json.loads(run(command, env={"PREHEAT_TOKEN": bench.token} if system == OURS else {}))
    expected = hashlib.sha256(b"".join(content(key, bench.settings.tiny.size) for key in keys))
    if result["digest"] != expected.hexdigest():
        raise WrongResultError(f"{system} sent other bytes than the source has.")
    return Sample(
        work=WORK,
        system=system,
        amount=result["objects"],
        seconds=result["seconds"],
        cpu={},  # it is not known: the first reads, which are not timed, are in it
        others={**meter.cpu, "load generator": result["cpu"]},
    )
