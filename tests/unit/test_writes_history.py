"""Random histories of writes against a dictionary: what was acknowledged is what every worker reads, and is persisted.

A write that was not acknowledged because a worker died may have happened or not, until the next one of its path.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from preheat.errors import PreheatError
from preheat.store import MemoryStore
from preheat.worker.writes import _claims, _own, _remote
from tests.unit.writing_workers import MIB, Group, Worker, at, pieces, working

KEYS = [f"{prefix}{name}" for prefix in ("", "fast/", "fast/tmp/") for name in ("a", "a/b")]
STEPS = 30
Body = bytes | None


class History:
    """One history, and what is allowed to be read at each path."""

    def __init__(self, group: Group, seed: int) -> None:
        self.group = group
        self.random = random.Random(seed)
        self.allowed: dict[str, set[Body]] = {key: {None} for key in KEYS}
        self.log: list[str] = []
        self.disks_to_lose = 1

    async def step(self) -> None:
        kind = self.random.choice([self.put, self.put, self.put, self.delete, self.copy, self.upload, self.persist])
        worker, key = self.random.choice(self.group.workers), self.random.choice(KEYS)
        self.log.append(f"{kind.__name__} {key} at {worker.id}")
        if self.random.random() < 0.25:
            await self.crash_during(kind(worker, key))
        else:
            await kind(worker, key)
        await self.check()

    async def crash_during(self, work: Awaitable[None]) -> None:
        """Kill a worker in the midst, and start it again, once without its disk."""
        working = asyncio.ensure_future(work)
        victim = self.random.choice(self.group.workers)
        for _ in range(self.random.randrange(60)):
            await asyncio.sleep(0)
        await asyncio.sleep(self.random.random() * 0.01)
        await self.group.kill(victim)
        await working
        store = victim.store
        if self.disks_to_lose and self.random.random() < 0.3:
            self.disks_to_lose -= 1
            store = MemoryStore(capacity=64 * MIB)
        self.log.append(f"  and {victim.id} died{'' if store is victim.store else ' with its disk'}")
        await self.group.add(store, number=int(victim.id.removeprefix("worker-")))

    async def attempt(self, key: str, body: Body, work: Awaitable[Any]) -> None:
        """Do a write of which nobody knows what came of it if it fails."""
        self.allowed[key] = self.allowed[key] | {body}
        try:
            await work
        except (PreheatError, asyncio.CancelledError) as error:
            self.log.append(f"  failed: {error!r}")
        else:
            self.allowed[key] = {body}

    def body(self) -> bytes:
        return self.random.randbytes(self.random.choice([0, 1, 1000, 200_000]))

    async def put(self, worker: Worker, key: str) -> None:
        body = self.body()
        await self.attempt(
            key, body, worker.writes.put(at(key), pieces(body), size=self.random.choice([None, len(body)]))
        )

    async def delete(self, worker: Worker, key: str) -> None:
        await self.attempt(key, None, worker.writes.delete(at(key)))

    async def copy(self, worker: Worker, key: str) -> None:
        sources = [source for source in KEYS if len(self.allowed[source]) == 1 and self.allowed[source] != {None}]
        if sources:
            source = self.random.choice(sources)
            (body,) = self.allowed[source]
            await self.attempt(key, body, worker.writes.copy(at(source), at(key)))

    async def upload(self, worker: Worker, key: str) -> None:
        bodies = [self.random.randbytes(1000) for _ in range(2)]

        async def write() -> None:
            upload = await worker.writes.create_upload(at(key))
            parts = [
                (number, await worker.writes.upload_part(at(key), upload, number, pieces(body), size=len(body)))
                for number, body in enumerate(bodies, start=1)
            ]
            await worker.writes.complete_upload(at(key), upload, parts)

        await self.attempt(key, b"".join(bodies), write())

    async def persist(self, worker: Worker, key: str) -> None:
        try:
            await worker.writes.persist(at(key))
        except (PreheatError, asyncio.CancelledError) as error:
            self.log.append(f"  failed: {error!r}")

    async def check(self) -> None:
        for worker in self.group.workers:
            for key in KEYS:
                try:
                    body = await worker.read(key)
                except PreheatError as error:
                    raise AssertionError(self.story(key, worker, None)) from error
                assert body in self.allowed[key], self.story(key, worker, body)

    async def check_persisted(self) -> None:
        for key in KEYS:
            await self.group.workers[0].writes.persist(at(key))
            if not key.startswith("fast/tmp/"):
                body = await self.group.content(key)
                assert body in self.allowed[key], self.story(key, None, body)
        await self.check()
        for worker in self.group.workers:
            worker.writes._own.local.uploads.close()  # those that a death broke off would stay for a day
            assert not worker.staging.staged
            assert not list(worker.staging.directory.iterdir())

    def story(self, key: str, worker: Worker | None, body: Body) -> str:
        found = "nothing" if body is None else f"{len(body)} bytes {body[:8]!r}"
        expected = [None if allowed is None else (len(allowed), allowed[:8]) for allowed in self.allowed[key]]
        place = worker.id if worker else "the under store"
        return "\n".join([*self.log, f"{place} has {found} at {key}, not {expected}"])


@pytest.mark.parametrize("seed", range(int(os.environ.get("WRITE_HISTORIES", "5"))))
async def test_what_was_acknowledged_is_what_is_read(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch):
    for module, name in ((_remote, "_TOLD_SECONDS"), (_own, "_KNOWN_SECONDS")):
        monkeypatch.setattr(module, name, 30.0)  # however busy the machine is
    monkeypatch.setattr(_claims, "_LEASE_SECONDS", 0.2)
    monkeypatch.setattr(_claims, "_SAFE_SECONDS", 0.15)
    async with working(tmp_path, 3) as group:
        history = History(group, seed)
        for _ in range(STEPS):
            await history.step()
        await history.check_persisted()
