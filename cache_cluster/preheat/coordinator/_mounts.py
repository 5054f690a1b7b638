"""The mounts, as admins change them; what they mean is :mod:`preheat.mounts`."""

from __future__ import annotations

import msgspec

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, NotFound
from preheat.logs import get_logger
from preheat.mounts import Mount, is_name
from preheat.views import BucketView

log = get_logger("coordinator")


class Mounts:
    """Adds, lists and removes mounts; every process follows them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.view = BucketView(engine, Bucket.MOUNTS, Mount)

    def list(self) -> list[Mount]:
        """Return the mounts, by name; the rules of datasets are not among them."""
        return sorted((mount for mount, _ in self.view.values() if mount.name), key=lambda mount: mount.name)

    def rule(self, dataset: str) -> Mount | None:
        """Return what a dataset lets hold for its readers."""
        known = self.view.get(_rule_key(dataset))
        return known[0] if known else None

    async def set_rule(self, dataset: str, rule: Mount | None) -> None:
        """Let something hold for a dataset's readers; none lets it hold no longer."""
        key = _rule_key(dataset)
        if rule is None:
            await self._engine.delete(Bucket.MOUNTS, key)
            if known := self.view.get(key):
                self.view.apply(Entry(key=key, value=None, revision=known[1] + 1))
            return
        value = msgspec.json.encode(rule)
        revision = await self._engine.put(Bucket.MOUNTS, key, value)
        self.view.apply(Entry(key=key, value=value, revision=revision))

    async def put(self, mount: Mount) -> bool:
        """Add a mount, or change the one of its name; false if it was there as it is.

        Raises:
            Conflict: another one has the same path: which of them counts there could not be told.
        """
        for other in self.list():
            if other.path == mount.path and other.name != mount.name:
                raise Conflict(
                    f"path={mount.path!r} is mounted as {other.name!r} already.",
                    remedy=f"Change that one, or remove it with `preheat mount rm {other.name}`.",
                )
        known = self.view.get(mount.name)
        if known and known[0] == mount:
            return False
        value = msgspec.json.encode(mount)
        revision = await self._engine.put(Bucket.MOUNTS, mount.name, value)
        self.view.apply(Entry(key=mount.name, value=value, revision=revision))
        log.info("A mount was set.", action="mounted", mount=mount.name, path=mount.path, writes=mount.writes)
        return True

    async def remove(self, name: str) -> None:
        """Remove a mount; nothing that is cached goes with it.

        Raises:
            NotFound: there is none of this name.
        """
        entry = await self._engine.get(Bucket.MOUNTS, name) if is_name(name) else None
        if entry is None:
            raise NotFound(f"There is no mount {name[:80]!r}.", remedy="List them with `preheat mount ls`.")
        await self._engine.delete(Bucket.MOUNTS, name)
        self.view.apply(Entry(key=name, value=None, revision=entry.revision + 1))
        log.info("A mount was removed.", action="unmounted", mount=name)


def _rule_key(dataset: str) -> str:
    return f"dataset/{dataset}"  # no mount's name has a slash
