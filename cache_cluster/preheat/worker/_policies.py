"""What a worker has to know about paths besides their objects: the mounts. Reads need it at hand, and never wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from preheat.engine import Bucket, Engine
from preheat.mounts import Mount, MountTable
from preheat.views import BucketView


class Policies:
    """Knows no mounts until :meth:`following` runs; while the engine is away, those known last hold."""

    def __init__(self) -> None:
        self.mounts = MountTable()

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Keep what is known current while the block runs."""
        view = BucketView(engine, Bucket.MOUNTS, Mount)

        def changed(_: str) -> None:
            self.mounts = MountTable(mount for mount, _ in view.values())

        view.listeners.add(changed)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(view.follow())
            try:
                yield
            finally:
                following.cancel()
