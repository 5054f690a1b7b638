"""What a configuration file declares, beside what it declared before: new things are made, those left out removed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from preheat.coordinator._datasets import Datasets
from preheat.coordinator._mounts import Mounts
from preheat.datasets import Dataset
from preheat.engine import Bucket, Engine
from preheat.errors import Conflict, NotFound
from preheat.logs import get_logger
from preheat.mounts import Mount

log = get_logger("coordinator")
_FILE_MOUNTS = "file_mounts"


class DeclaredFile:
    """Declares what files say.

    Args:
        engine: knows which mounts a file has made.
        datasets: know it of themselves.
        mounts: the mounts.
    """

    def __init__(self, engine: Engine, *, datasets: Datasets, mounts: Mounts) -> None:
        self._engine = engine
        self._datasets = datasets
        self._mounts = mounts

    async def apply(self, *, datasets: Iterable[Dataset], mounts: Iterable[Mount]) -> None:
        """Make what there is what a file says; a mount that another one is in the way of is told and left out.

        Raises:
            EngineUnavailable: not all is done; to do it again does the rest.
        """
        entry = await self._engine.get(Bucket.CLUSTER, _FILE_MOUNTS)
        before = msgspec.json.decode(entry.value, type=set[str]) if entry and entry.value else set[str]()
        now = {mount.name: mount for mount in mounts}
        value = msgspec.json.encode(sorted(before | now.keys()))
        await self._engine.put(Bucket.CLUSTER, _FILE_MOUNTS, value)  # first: whatever breaks off, none is forgotten
        for name in sorted(before - now.keys()):
            await self._remove_mount(name)
        for mount in now.values():
            await self._put_mount(mount)
        await self._engine.put(Bucket.CLUSTER, _FILE_MOUNTS, msgspec.json.encode(sorted(now)))
        await self._datasets.declare_file(datasets)

    async def _put_mount(self, mount: Mount) -> None:
        try:
            await self._mounts.put(mount)
        except Conflict as error:
            log.warning("A mount of the file is left out.", action="mount_refused", mount=mount.name, error=str(error))

    async def _remove_mount(self, name: str) -> None:
        try:
            await self._mounts.remove(name)
        except NotFound:  # by hand
            log.info("A mount that the file had was gone.", action="mount_gone", mount=name)
