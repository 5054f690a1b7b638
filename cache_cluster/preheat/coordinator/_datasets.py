"""The datasets that are declared, as people and files change them. What is done about them: ``_datasets_keeper``."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import msgspec

from preheat.access import Role, authorize, caller
from preheat.datasets import Dataset, Owner, Record, check_name, declared, without_run
from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, NotFound
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.views import BucketView

log = get_logger("coordinator")
_ATTEMPTS = 20


class Datasets:
    """Declares, lists and removes datasets.

    Args:
        engine: has the records.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self.view = BucketView(engine, Bucket.DATASETS, Record)

    def list(self) -> list[Record]:
        """Return the datasets that the caller may see, by name."""
        seen = [record for record, _ in self.view.values() if not record.removed and _may_see(record.dataset)]
        return sorted(seen, key=lambda record: record.dataset.name)

    def peek(self, name: str) -> Record | None:
        """Return a dataset as it was last heard of; none if there is none, or the caller may not see it."""
        known = self.view.get(name)
        return known[0] if known and not known[0].removed and _may_see(known[0].dataset) else None

    async def get(self, name: str) -> Record:
        """Return a dataset.

        Raises:
            NotFound: there is none of this name.
            Forbidden: the caller's token is bound to other paths.
        """
        check_name(name)
        record = await self._latest(name)
        if record is None or record.removed:
            raise NotFound(f"There is no dataset {name!r}.", remedy="List them with `preheat dataset ls`.")
        authorize(caller(), Role.READ, _paths(record.dataset))
        return record

    async def declare(self, dataset: Dataset, *, owner: Owner = Owner.API) -> tuple[Record, bool]:
        """Declare a dataset, or change the one of its name as a whole; return it, and whether it is new.

        Raises:
            Conflict: a file declares it, and this is not the file.
            Forbidden: the caller's token is bound to other paths.
        """
        _check_may(dataset)

        def change(before: Record | None) -> Record:
            if before is not None and not before.removed:
                _check_change(before, owner)
            return declared(before, dataset, owner, self._clock())

        before, after = await self._change(dataset.name, change)
        if before is None or before.dataset != dataset:
            log.info("A dataset was declared.", action="dataset_declared", dataset=dataset.name, owner=owner)
        return after, before is None or before.removed

    async def set_quota(self, path: str, quota: int | None) -> builtins.list[Record]:
        """Change the quota of the datasets that are declared at a path, in bytes; return them, by name.

        Raises:
            NotFound: there is none. Otherwise as :meth:`declare`.
        """
        found = [record.dataset for record in self.list() if record.dataset.path == path]
        if not found:
            raise NotFound(
                f"path={path!r} is no declared dataset's.",
                remedy="A quota belongs to a dataset: `preheat dataset apply --name NAME --path PATH --quota SIZE`.",
            )
        return [(await self.declare(replace(dataset, quota=quota)))[0] for dataset in found]

    async def remove(self, name: str, *, owner: Owner = Owner.API) -> None:
        """Remove a declaration; what is cached stays, until its time to live is over if it has one.

        A load that runs stops, unless others wait for it.

        Raises:
            NotFound, Forbidden: as :meth:`get`.
            Conflict: a file declares it.
        """
        await self.get(name)

        def change(before: Record | None) -> Record:
            if before is None or before.removed:
                raise NotFound(f"There is no dataset {name!r} any more.")
            _check_change(before, owner)
            return replace(without_run(before), removed=True)

        await self._change(name, change)
        log.info("A dataset is no longer declared.", action="dataset_removed", dataset=name, owner=owner)

    async def declare_file(self, datasets: Iterable[Dataset]) -> None:
        """Declare what a file has, and remove what one had before and this one has not."""
        names = set[str]()
        for dataset in datasets:
            names.add(dataset.name)
            await self.declare(dataset, owner=Owner.FILE)
        for record in self.list():
            if record.owner is Owner.FILE and record.dataset.name not in names:
                with suppress(NotFound):  # another coordinator, with the same file, was first
                    await self.remove(record.dataset.name, owner=Owner.FILE)

    async def write(self, record: Record, revision: int) -> bool:
        """Write a record if it is still at a revision; false if another coordinator has changed it."""
        name, value = record.dataset.name, msgspec.json.encode(record)
        try:
            written = await self._engine.put(Bucket.DATASETS, name, value, revision=revision)
        except Conflict:
            return False
        self.view.apply(Entry(key=name, value=value, revision=written))
        return True

    async def forget(self, name: str, revision: int) -> None:
        """Delete a record if it is still at a revision."""
        try:
            await self._engine.delete(Bucket.DATASETS, name, revision=revision)
        except Conflict:  # declared again, or another coordinator was first
            return
        self.view.apply(Entry(key=name, value=None, revision=revision + 1))

    async def _change(self, name: str, change: Callable[[Record | None], Record]) -> tuple[Record | None, Record]:
        for _ in range(_ATTEMPTS):
            before = await self._latest(name)
            known = self.view.get(name)
            after = change(before)
            if before == after or await self.write(after, known[1] if known else 0):
                return before, after
        raise Conflict(f"Too many requests change the dataset {name} at once.", remedy="Try again.")

    async def _latest(self, name: str) -> Record | None:
        """Return a record as the engine has it: another coordinator may have written it just now."""
        entry = await self._engine.get(Bucket.DATASETS, name)
        if entry is not None:
            self.view.apply(entry)
        elif known := self.view.get(name):
            self.view.apply(Entry(key=name, value=None, revision=known[1] + 1))
        found = self.view.get(name)
        return found[0] if found else None


def _check_change(before: Record, owner: Owner) -> None:
    if before.owner is Owner.FILE and owner is not Owner.FILE:
        raise Conflict(
            f"The dataset {before.dataset.name} is declared by the coordinator's configuration file.",
            remedy="Change or remove it there (preheat.toml, in the chart `datasets`): the file is read again at once.",
        )
    _check_may(before.dataset)


def _check_may(dataset: Dataset) -> None:
    """Refuse who may not declare it: what holds for all readers is for admins to say, as with mounts."""
    authorize(caller(), Role.ADMIN if dataset.rule else Role.SUBMIT, _paths(dataset))


def _paths(dataset: Dataset) -> list[UfsPath]:
    return [UfsPath.parse(uri) for uri in dataset.uris]


def _may_see(dataset: Dataset) -> bool:
    return all(caller().covers(path) for path in _paths(dataset))
