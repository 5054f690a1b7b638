"""The disk store against a dictionary, with restarts, and crashes between any two steps that reach the disk."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from preheat.errors import NotFound, StoreError, VersionChanged
from preheat.settings import StoreSettings
from preheat.store import CachedObject, DiskStore
from preheat.store._writer import Writer
from tests.unit.store_conformance import put
from tests.unit.store_crashes import Crash, dying_after, spoil_index

PATHS = st.sampled_from([f"s3://x/{name}" for name in ("a", "a/b", "b", "é", "z")])
SETTINGS = StoreSettings(pack_size=300, stream_above=30, segment_size=20, entries_in_memory=3)
DATA = st.binary(max_size=60)


INDEX = st.sampled_from(["kept", "kept", "torn", "deleted"])


@dataclass(frozen=True)
class Started:
    """A writer that has half of its object's bytes."""

    writer: Writer
    path: str
    etag: str
    data: bytes
    life: int


class DiskStoreMachine(RuleBasedStateMachine):
    """Packs hold a few objects, and every second object is streamed. Nothing is evicted."""

    writers: Bundle[Started] = Bundle("writers")
    read_before: Bundle[CachedObject] = Bundle("read_before")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.life = 0
        self.versions = 0
        self.versions_of: dict[str, bytes] = {}
        """Data by etag, of all versions there ever were."""
        self.model: dict[str, tuple[str, bytes]] = {}
        self.durable: set[str] = set()
        """The paths that a crash must leave as they are."""
        self.store = self.open()

    @property
    def directory(self) -> Path:
        return self.root / str(self.life)

    def open(self) -> DiskStore:
        return DiskStore(self.directory, capacity=1 << 20, settings=SETTINGS)

    def new_version(self) -> str:
        self.versions += 1
        return f"v{self.versions}"

    @rule(target=read_before, path=PATHS, data=DATA)
    def write(self, path: str, data: bytes) -> CachedObject:
        etag = self.new_version()
        self.durable.discard(path)
        self.model[path] = (etag, data)
        self.versions_of[etag] = data
        return put(self.store, path, data, etag)

    @rule(target=writers, path=PATHS, data=DATA)
    def start(self, path: str, data: bytes) -> Started:
        etag = self.new_version()
        writer = self.store.writer(path, etag=etag, size=len(data), last_modified=0)
        writer.append(data[: len(data) // 2])
        return Started(writer, path, etag, data, self.life)

    @rule(started=consumes(writers), commit=st.booleans())
    def finish(self, started: Started, *, commit: bool) -> None:
        with started.writer as writer:
            if not commit:
                return
            if started.life != self.life:
                with pytest.raises(StoreError, match="closed"):
                    finish(writer, started.data)
                return
            finish(writer, started.data)
            self.durable.discard(started.path)
            self.model[started.path] = (started.etag, started.data)
            self.versions_of[started.etag] = started.data

    @rule()
    def flush(self) -> None:
        self.store.flush()
        self.durable = set(self.model)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        assert self.store.delete(path) == (self.model.pop(path, None) is not None)
        self.durable.discard(path)

    @rule(item=read_before, start=st.integers(0, 70), end=st.none() | st.integers(0, 70))
    def read(self, item: CachedObject, start: int, end: int | None) -> None:
        etag, data = self.model.get(item.path, ("", b""))
        if etag == item.etag:
            assert self.store.read(item, start, end) == data[start:end]
        else:
            with pytest.raises(VersionChanged if etag else NotFound):
                self.store.read(item, start, end)

    @rule()
    def restart(self) -> None:
        self.store.close()
        before = self.directory
        self.life += 1
        before.rename(self.directory)
        self.store = self.open()
        self.durable = set(self.model)

    @rule(index=INDEX)
    def crash(self, index: str) -> None:
        """Go on from the files as they stand, as after kill -9; only what was not flushed may be missing."""
        self.go_on_from_files(index)

    @rule(
        action=st.sampled_from(["write", "delete", "flush", "close"]),
        step=st.integers(0, 9),
        path=PATHS,
        data=DATA,
        index=INDEX,
    )
    def crash_during(self, action: str, step: int, path: str, data: bytes, index: str) -> None:
        """Die at some step of an action: the object that it is about may be as before, as after, or missing."""
        if action in ("write", "delete"):
            self.durable.discard(path)
        etag = self.new_version()
        self.versions_of[etag] = data
        with suppress(Crash), dying_after(step):
            if action == "write":
                put(self.store, path, data, etag)
            elif action == "delete":
                self.store.delete(path)
            else:
                getattr(self.store, action)()
        self.go_on_from_files(index, at_work=(path, etag))

    def go_on_from_files(self, index: str, at_work: tuple[str, str] = ("", "")) -> None:
        before = self.directory
        self.life += 1
        shutil.copytree(before, self.directory)
        self.store.close()
        spoil_index(self.directory, index)
        self.store = self.open()
        found = {item.path: item.etag for item in self.store.scan()}
        if index != "torn":
            assert self.durable <= found.keys()
        for path, etag in found.items():
            assert etag == self.model.get(path, ("",))[0] or (path, etag) == at_work
        self.model = {path: (etag, self.versions_of[etag]) for path, etag in found.items()}
        self.durable &= found.keys()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        items = list(self.store.scan())
        assert [item.path for item in items] == sorted(self.model)
        for item in items:
            assert (item.etag, self.store.read(item)) == self.model[item.path]
        usage = self.store.usage()
        assert usage.objects == len(self.model)
        assert usage.used == sum(len(data) for _, data in self.model.values())
        assert (usage.evicted, usage.corrupt) == (0, 0)

    @invariant()
    def counts_the_bytes_on_disk(self) -> None:
        catalog = self.store._volumes[0]._holdings.catalog
        sizes = {number: found.size for number, found in self.store._volumes[0]._files.found().items()}
        assert sizes.keys() == catalog.packs.keys()
        assert sum(sizes.values()) <= catalog.stored == sum(pack.size for pack in catalog.packs.values())
        assert all(pack.objects or pack.streaming or pack is catalog.filling for pack in catalog.packs.values())
        assert catalog.objects == sum(pack.objects for pack in catalog.packs.values())

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)


def finish(writer: Writer, data: bytes) -> None:
    writer.append(data[len(data) // 2 :])
    writer.commit()


TestDiskStoreMachine = DiskStoreMachine.TestCase
TestDiskStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
