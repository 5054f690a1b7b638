"""Pins: which paths are bound to the dataset version of a finished load."""

from __future__ import annotations

import hashlib
import re
import time

import msgspec

from preheat.access import Role, authorize, caller
from preheat.engine import Bucket, Engine, Entry, is_token
from preheat.errors import Conflict, InvalidRequest, NotFound
from preheat.inventories import Inventories
from preheat.inventory import Inventory, Pin
from preheat.logs import get_logger
from preheat.paths import UfsPath

log = get_logger("coordinator")
_VERSION = re.compile(r"sha256:[0-9a-f]{64}")


class Pins:
    """Makes, lists and removes pins. A path has one at most.

    Args:
        engine: keeps them.
        inventories: says what can be pinned.
    """

    def __init__(self, engine: Engine, inventories: Inventories) -> None:
        self._engine = engine
        self._inventories = inventories

    def list(self) -> list[Pin]:
        """Return the pins that the caller may see, by path."""
        pins = self._inventories.coverage.pins.values()
        return sorted((pin for pin in pins if caller().covers(UfsPath.parse(pin.path))), key=lambda pin: pin.path)

    async def pin(self, uri: str, *, job_id: str = "", version: str = "") -> tuple[Pin, bool]:
        """Bind a path to a dataset version, in the place of what it was bound to; return the pin, and if it is new.

        Args:
            uri: the path of a load that has succeeded.
            job_id: which load; by default the last one.
            version: which dataset version; by default whatever was listed last.

        Raises:
            InvalidRequest: a version does not look like this.
            Conflict: no inventory tells what that version is.
            Forbidden: the caller's token is bound to other paths.
        """
        if version and not _VERSION.fullmatch(version):
            raise InvalidRequest(f"version={version[:80]!r} is not `sha256:` and 64 hexadecimal digits.")
        path = UfsPath.parse(uri)
        authorize(caller(), Role.SUBMIT, [path])
        inventory = self._inventory(str(path), job_id, version)
        pin = Pin(
            id=hashlib.sha256(str(path).encode()).hexdigest()[:16],
            path=str(path),
            inventory=inventory.id,
            version=inventory.version,
            pinned_at=time.time(),
        )
        before = self._inventories.coverage.pins.get(pin.id)
        if before is not None and before.inventory == pin.inventory:
            return before, False
        value = msgspec.json.encode(pin)
        revision = await self._engine.put(Bucket.PINS, pin.id, value)
        self._inventories.pins.apply(Entry(key=pin.id, value=value, revision=revision))
        log.info("A path was pinned.", action="pinned", path=pin.path, version=pin.version)
        return pin, True

    async def unpin(self, pin_id: str) -> None:
        """Remove a pin.

        Raises:
            NotFound: there is none of this id.
            Forbidden: the caller's token is bound to other paths.
        """
        entry = await self._engine.get(Bucket.PINS, pin_id) if is_token(pin_id) else None
        if entry is None or entry.value is None:
            raise NotFound(f"There is no pin {pin_id[:80]!r}.", remedy="List them with GET /v1/pins.")
        pin = msgspec.json.decode(entry.value, type=Pin)
        authorize(caller(), Role.SUBMIT, [UfsPath.parse(pin.path)])
        await self._engine.delete(Bucket.PINS, pin_id)
        self._inventories.pins.apply(Entry(key=pin_id, value=None, revision=entry.revision + 1))
        log.info("A path was unpinned.", action="unpinned", path=pin.path, version=pin.version)

    def _inventory(self, path: str, job_id: str, version: str) -> Inventory:
        coverage = self._inventories.coverage
        known = [item for item in coverage.inventories.values() if item.path == path]
        usable = [item for item in known if item.retired_at is None or coverage.is_pinned(item.id)]
        matching = [item for item in usable if job_id in {"", item.job_id} and version in {"", item.version}]
        if matching:
            return max(matching, key=lambda item: item.listed_at)
        if version or job_id:
            others = ", ".join(sorted({f"{item.version} of the job {item.job_id}" for item in usable}))
            wanted = " and ".join(filter(None, (job_id and f"the job {job_id}", version)))
            raise Conflict(
                f"No inventory of {path} is kept for {wanted}: a load has to have succeeded there, be the last one or "
                "pinned, and have listed all of this very path.",
                remedy=f"There is {others}." if others else _LOAD.format(path=path),
            )
        raise Conflict(f"No load of {path} that is known has succeeded.", remedy=_LOAD.format(path=path))


_LOAD = "Load it first: `preheat job load --path {path} --submit`, without a filter."
