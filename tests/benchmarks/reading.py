"""Serving and reading what is cached: each function does one work once with one system and returns the sample."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from preheat.paths import UfsPath
from preheat.placement import Member
from testbed.s3 import REGION
from tests.benchmarks.bench import Bench, WrongResultError
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import BUCKET, KIB, MIB, ObjectSet, content
from tests.benchmarks.metering import Meter, cpu_seconds
from tests.benchmarks.peers import run

_CONNECTIONS = 32
_LARGE_CONNECTIONS = 4
_RANGE = 128 * KIB
_REQUESTS = 64
"""Different objects or ranges, asked for in turn."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An object, or a range of it, to ask a server for."""

    key: str
    size: int
    """Of the object."""
    start: int = 0
    end: int | None = None

    @property
    def range(self) -> str:
        """The value of the header Range; empty for the whole object."""
        return "" if self.end is None else f"bytes={self.start}-{self.end - 1}"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is asked of a server, and by how many connections."""

    work: str
    pieces: Sequence[Piece]
    connections: int
    digests: Sequence[str]
    """SHA-256 of each piece's bytes."""
    in_mebibytes: bool = False
    """Whether the amount is counted in MiB and not in requests."""


def servings(bench: Bench, worker: Member) -> list[Serving]:
    """Return what to ask of the servers: objects that one worker holds, the one with the first large object."""
    small, large = bench.settings.small, bench.settings.large
    large_key = next(large.keys())
    candidates = small.sample(4 * _REQUESTS)
    owned = zip(candidates, bench.owners(candidates), strict=True)
    keys = [key for key, owner in owned if owner == worker][:_REQUESTS]
    starts = random.Random(large_key).sample(range(0, large.size, _RANGE), _REQUESTS)
    ranges = [Piece(key=large_key, size=large.size, start=start, end=start + _RANGE) for start in starts]
    large_content = content(large_key, large.size)
    return [
        Serving(
            work="serve-small",
            pieces=[Piece(key=key, size=small.size) for key in keys],
            connections=_CONNECTIONS,
            digests=[_sha256(content(key, small.size)) for key in keys],
        ),
        Serving(
            work="serve-range",
            pieces=ranges,
            connections=_CONNECTIONS,
            digests=[_sha256(large_content[piece.start : piece.end]) for piece in ranges],
        ),
        Serving(
            work="serve-large",
            pieces=[Piece(key=large_key, size=large.size)],
            connections=_LARGE_CONNECTIONS,
            digests=[_sha256(large_content)],
            in_mebibytes=True,
        ),
    ]


def write_files(bench: Bench, wanted: Sequence[Serving]) -> None:
    """Give nginx the same objects as files."""
    for piece in {piece.key: piece for serving in wanted for piece in serving.pieces}.values():
        file = bench.nginx_files / piece.key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(piece.key, piece.size))


def serve_with_preheat(bench: Bench, serving: Serving, worker: Member) -> Sample:
    """Ask the data port of the worker that holds the objects."""
    port = urlsplit(worker.url).port
    assert port is not None
    targets = [f"/v1/data/{UfsPath.parse(f's3://{BUCKET}/{piece.key}').url_path}" for piece in serving.pieces]
    pid = bench.pids[worker.id]
    return _serve(bench, serving, system=OURS, name=worker.id, pid=pid, port=port, targets=targets, token=bench.token)


def serve_with_nginx(bench: Bench, serving: Serving) -> Sample:
    """Ask nginx."""
    targets = [f"/{piece.key}" for piece in serving.pieces]
    port, pid = bench.nginx_port, bench.nginx.pid
    return _serve(bench, serving, system="nginx", name="nginx", pid=pid, port=port, targets=targets)


def _serve(
    bench: Bench,
    serving: Serving,
    *,
    system: str,
    name: str,
    pid: int,
    port: int,
    targets: Sequence[str],
    token: str = "",
) -> Sample:
    pairs = zip(targets, serving.pieces, strict=True)
    order = {
        "host": "127.0.0.1",
        "port": port,
        "requests": [{"target": target, "range": piece.range} for target, piece in pairs],
        "connections": serving.connections,
        "seconds": bench.settings.serve_seconds,
        "token": token,
    }
    before = cpu_seconds(pid)
    result = _script([sys.executable, "-m", "tests.benchmarks.http_load"], order)
    if result["digests"] != list(serving.digests):
        raise WrongResultError(f"{system} served other bytes than the source has: {serving.work}.")
    return Sample(
        work=serving.work,
        system=system,
        amount=result["bytes"] / MIB if serving.in_mebibytes else result["requests"],
        seconds=result["seconds"],
        cpu={name: cpu_seconds(pid) - before},
        others={"load generator": result["cpu"]},
    )


def read_with_preheat(bench: Bench) -> Sample:
    """Read warm objects with ``cat`` of ``preheat://``."""
    options = {"coordinator": bench.cluster.url, "token": bench.token}
    with Meter(bench.pids) as meter:
        result = _cat(bench, [sys.executable], "preheat", options)
    return Sample(
        work="read",
        system=OURS,
        amount=bench.settings.read_count,
        seconds=result["seconds"],
        cpu={"client": result["cpu"]},
        others=meter.cpu,
    )


def read_with_s3fs(bench: Bench) -> Sample:
    """Read the same objects from the origin with s3fs."""
    server = bench.origin.server
    client = {"endpoint_url": bench.origin.endpoint, "region_name": REGION}
    options = {"key": server.access_key, "secret": server.secret_key, "client_kwargs": client}
    with Meter(bench.origin.pids) as meter:
        result = _cat(bench, [bench.peers.python], "s3", options)
    return Sample(
        work="read",
        system="s3fs",
        amount=bench.settings.read_count,
        seconds=result["seconds"],
        cpu={"client": result["cpu"]},
        others=meter.cpu,
    )


def _cat(bench: Bench, python: list[str | Path], protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    small = bench.settings.small
    keys = small.sample(bench.settings.read_count)
    order = {"protocol": protocol, "options": options, "paths": [f"{BUCKET}/{key}" for key in keys]}
    result = _script([*python, Path(__file__).with_name("cat_files.py")], order)
    if result["digest"] != _digest(small, keys):
        raise WrongResultError(f"{protocol} read other bytes than the source has.")
    return result


def _digest(objects: ObjectSet, keys: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(content(key, objects.size))
    return digest.hexdigest()


def _script(command: list[str | Path], order: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run(command, stdin=json.dumps(order)))
    return result


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
