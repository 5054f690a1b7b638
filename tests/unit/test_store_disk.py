"""The disk store: the conformance suite, and what only a disk can do to it."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preheat.errors import CorruptPage, ObjectNotFound, StoreError, StoreFull, StoreInUse
from preheat.settings import StoreSettings
from preheat.store import PAGE_SIZE, CachedObject, DiskStore, PageStore
from preheat.store._files import _KEEP_SIZE, Files, _fallocate
from preheat.store._format import SEGMENT_START, pieces
from tests.unit.store_conformance import (
    ALL_OF_IT,
    MIB,
    A,
    B,
    C,
    CapacityConformance,
    StoreConformance,
    content,
    paths,
    put,
)

SMALL_PACK = 1000


class OnDisk(StoreConformance):
    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore:
        return DiskStore(directory, capacity=capacity, settings=settings)

    def flip_bit(self, store: PageStore, path: str, position: int) -> None:
        assert isinstance(store, DiskStore)
        flip_bit(store, path, position)


class TestDiskStore(OnDisk, CapacityConformance):
    """Packs that are seldom full."""


class TestStreamingDiskStore(OnDisk, CapacityConformance):
    """Every object is cut into segments, as large ones are."""

    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore:
        settings = replace(settings, stream_above=0, segment_size=PAGE_SIZE)
        return DiskStore(directory, capacity=capacity, settings=settings)


class TestSmallPacks(OnDisk, CapacityConformance):
    """Packs are filled, left and dropped all the time, and hardly any entry is in memory."""

    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore:
        settings = replace(settings, pack_size=SMALL_PACK, stream_above=2 * SMALL_PACK, entries_in_memory=2)
        return DiskStore(directory, capacity=capacity, settings=settings)


class TestSeveralDirectories(OnDisk):
    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore:
        return DiskStore(*(directory / name for name in "123"), capacity=3 * capacity, settings=settings)


def test_room_is_reserved_for_what_comes_and_not_beyond_its_end(tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb") as probe:
        if _fallocate(probe.fileno(), _KEEP_SIZE, 0, 1):
            pytest.skip("The file system reserves nothing.")
    size = 4 * PAGE_SIZE + 1
    with closing(DiskStore(tmp_path / "store", capacity=1 << 30)) as store:
        with store.writer(A, etag="e", size=size, last_modified=1.0) as writer:
            writer.append(bytes(100))
            (file,) = (tmp_path / "store" / "segments").iterdir()
            assert file.stat().st_size == SEGMENT_START + 100
            assert size <= file.stat().st_blocks * 512 < size + PAGE_SIZE
        assert not file.exists()


def test_room_that_cannot_be_reserved_is_no_error(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.reserve((1, 0), 0, 1)  # there is no such file
    files.create((1, 0), b"header")
    files.reserve((1, 0), 0, 1 << 62)
    assert files.size((1, 0)) == len(b"header")


def flip_bit(store: DiskStore, path: str, position: int) -> None:
    found = store._locate(path)
    assert found is not None
    volume, entry = found
    key, offset = entry.pack.key, entry.data + position
    if entry.segment_size:
        [(segment, offset, _)] = pieces(position, position + 1, entry.segment_size)
        key = entry.pack.number, segment
    flip_bit_of(volume._files.path(key), offset)


def flip_bit_of(file: Path, position: int) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(position)
        byte = opened_file.read(1)[0]
        opened_file.seek(position)
        opened_file.write(bytes([byte ^ 1]))


def packs(directory: Path) -> list[Path]:
    return sorted([*(directory / "packs").iterdir(), *(directory / "segments").iterdir()])


def disk_bytes(directory: Path) -> int:
    return sum(pack.stat().st_size for pack in packs(directory))


def opened(directory: Path, capacity: int = 64 * MIB, **changes: Any) -> closing[DiskStore]:
    settings = replace(ALL_OF_IT, **changes)
    return closing(DiskStore(directory, capacity=capacity, settings=settings))


# Opening again


def test_a_closed_store_opens_with_everything(tmp_path: Path) -> None:
    objects = {f"s3://x/{number}": content(number * 1000, number) for number in range(20)}
    objects["s3://x/large"] = content(5 * MIB)
    with opened(tmp_path) as store:
        before = [put(store, path, data) for path, data in sorted(objects.items())]
        usage = store.usage()
    with opened(tmp_path) as store:
        assert list(store.scan()) == before
        assert store.usage() == usage
        for item in before:
            assert store.read(item) == objects[item.path]


def test_it_goes_on_in_the_pack_that_was_being_filled(tmp_path: Path) -> None:
    for number in range(5):
        with opened(tmp_path) as store:
            put(store, f"s3://x/{number}", b"12345")
    assert len(packs(tmp_path)) == 1
    assert packs(tmp_path)[0].read_bytes().count(b"LIVE") == 5


def test_a_smaller_capacity_evicts_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, 100_000) as store:
        for path in (A, B, C):
            put(store, path, b"x" * 10_000)
    with opened(tmp_path, 15_000) as store:
        assert paths(store) == [C]
        assert disk_bytes(tmp_path) < 11_000


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b") as store:
        put(store, A, b"1")
    assert (tmp_path / "a" / "b" / "index.sqlite").is_file()


# Capacity is a bound of the disk


def test_the_disk_is_bounded_even_when_versions_die_in_the_packs(tmp_path: Path) -> None:
    with opened(tmp_path, 10_000, pack_size=1000) as store:
        for number in range(500):
            put(store, f"s3://x/{number % 7}", content(300, number), f"v{number}")
            assert disk_bytes(tmp_path) <= 10_000
        assert store.usage().used <= 2100


def test_the_index_forgets_what_was_dropped(tmp_path: Path) -> None:
    with opened(tmp_path, 1000, pack_size=100) as store:
        for number in range(50):
            put(store, f"s3://x/{number}", b"x" * 40)
        store.delete("s3://x/49")
        left = store.usage().objects
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM objects").fetchone() == (left,)


def test_a_pack_without_objects_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path, 16 * SMALL_PACK, pack_size=SMALL_PACK) as store:
        for path in (A, B, C):
            put(store, path, b"x" * 300)
        assert len(packs(tmp_path)) == 2
        store.delete(A)
        assert len(packs(tmp_path)) == 2
        put(store, B, b"x" * 700, "v2")
        assert len(packs(tmp_path)) == 2
        store.delete(B)
        store.delete(C)
        assert packs(tmp_path) == []


def test_an_object_being_streamed_is_not_dropped(tmp_path: Path) -> None:
    with opened(tmp_path, 100000, stream_above=100) as store:
        kept = put(store, A, b"x" * 30000)
        with store.writer(B, etag="v1", size=60000, last_modified=0) as writer:
            writer.append(b"y" * 30000)
            with pytest.raises(StoreFull, match="objects being written"):
                put(store, C, b"z" * 50000)
            assert store.read(kept) == b"x" * 30000
            put(store, C, b"z" * 39000)
            writer.append(b"y" * 30000)
            item = writer.commit()
        assert store.read(item) == b"y" * 60000
        assert paths(store) == [B, C]


def test_a_discarded_stream_leaves_no_file(tmp_path: Path) -> None:
    with opened(tmp_path, stream_above=100) as store:
        with store.writer(A, etag="v1", size=600, last_modified=0) as writer:
            writer.append(b"y" * 300)
            assert len(packs(tmp_path)) == 1
        assert packs(tmp_path) == []
        with store.writer(A, etag="v1", size=600, last_modified=0) as writer:
            writer.append(b"y" * 300)
            store.close()
            assert packs(tmp_path) == []


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_open_files_are_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, pack_size=1) as store:
        before = open_files()
        items = [put(store, f"s3://x/{number:03d}", b"%d" % number) for number in range(400)]
        assert [store.read(item) for item in items] == [b"%d" % number for number in range(400)]
        assert open_files() <= before + 256
    assert open_files() < before


# Damage


def test_a_flipped_bit_is_found_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, B, b"whole")
        put(store, A, content(5 * MIB))
        flip_bit(store, A, 4 * MIB)
    with opened(tmp_path) as store:
        item = store.lookup(A)
        assert item is not None
        with pytest.raises(CorruptPage, match=A):
            store.verify(item)
        assert store.usage().corrupt == 1
    with opened(tmp_path) as store:
        assert paths(store) == [B]
        assert len(packs(tmp_path)) == 1


def test_a_truncated_pack_loses_what_it_lost(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, A, b"x" * 100)
        put(store, B, b"y" * 100)
    os.truncate(packs(tmp_path)[0], 199)
    with opened(tmp_path) as store:
        assert paths(store) == [A]
        put(store, C, b"z" * 100)
    with opened(tmp_path) as store:
        assert [store.read(item) for item in store.scan()] == [b"x" * 100, b"z" * 100]


def test_a_pack_truncated_while_open_is_corrupt(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        item = put(store, A, b"x" * 100)
        os.truncate(packs(tmp_path)[0], 50)
        with pytest.raises(CorruptPage):
            store.read(item)
        assert store.lookup(A) is None


def test_the_objects_of_a_missing_pack_are_gone(tmp_path: Path) -> None:
    with opened(tmp_path, pack_size=1) as store:
        put(store, A, b"12")
        put(store, B, b"34")
        put(store, C, b"")
    packs(tmp_path)[0].unlink()
    with opened(tmp_path) as store:
        assert paths(store) == [B, C]
        assert store.usage().used == 2


def test_a_pack_that_disappears_while_open_is_dropped(tmp_path: Path) -> None:
    with opened(tmp_path, pack_size=1) as store:
        items = [put(store, f"s3://x/{number:03d}", b"12") for number in range(300)]
        packs(tmp_path)[0].unlink()  # the first of 300 is not among the files kept open
        with pytest.raises(CorruptPage, match=r"00000001\.pack: No such file"):
            store.read(items[0])
        with pytest.raises(ObjectNotFound):
            store.read(items[0])
        assert store.usage().corrupt == 1


def test_an_orphan_pack_and_a_torn_tail_are_no_objects(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, A, b"12")
    pack = packs(tmp_path)[0]
    with pack.open("ab") as tail:
        tail.write(b"bytes whose row was never written")
    (pack.parent / "00000007.pack").write_bytes(b"a large object that was not published")
    with opened(tmp_path) as store:
        assert packs(tmp_path) == [pack]
        assert paths(store) == [A]
        put(store, B, b"34")
        assert [store.read(item) for item in store.scan()] == [b"12", b"34"]


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"format 99.*Delete"):
        DiskStore(tmp_path, capacity=1000)


# A disk that refuses


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse longer files, as a full disk refuses bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def put_hundred(store: PageStore) -> None:
    for number in range(100):
        put(store, f"s3://x/{number:03d}", b"x" * 10)


@pytest.mark.parametrize("stream_above", [100, 10 * MIB])
def test_a_disk_that_is_full_in_the_middle_of_an_object(tmp_path: Path, stream_above: int) -> None:
    with opened(tmp_path, stream_above=stream_above) as store:
        kept = put(store, A, b"old")
        with file_size_limit(3 * MIB), pytest.raises(StoreFull, match=r"File too large.*Free space"):
            put(store, A, content(4 * MIB), "v2")
        assert store.read(kept) == b"old"
        assert store.usage().used == 3
        assert store.read(put(store, B, b"later")) == b"later"
        assert store.read(put(store, A, content(4 * MIB), "v2")) == content(4 * MIB)


def test_an_index_that_is_full_is_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put_hundred(store)
        index = store._volumes[0]._holdings.index._db
        index.execute("PRAGMA max_page_count = 1")
        for _ in range(2):
            with pytest.raises(StoreFull, match=r"full.*Free space"):
                store.flush()
        assert [store.read(item) for item in store.scan()] == [b"x" * 10] * 100
        index.execute("PRAGMA max_page_count = 1000000")
        store.flush()
    with opened(tmp_path) as store:
        assert [store.read(item) for item in store.scan()] == [b"x" * 10] * 100


def test_what_a_full_index_has_no_row_for_is_cached_until_the_process_ends(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store._volumes[0]._holdings.index._db.execute("PRAGMA max_page_count = 1")
        put_hundred(store)
        with pytest.raises(StoreFull, match=r"full.*Free space"):
            store.flush()
        assert store.usage().objects == 100
    with opened(tmp_path) as store:
        assert paths(store) == []


def test_rows_do_not_wait_without_bound(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(2500):
            put(store, f"s3://x/{number:04d}", b"")
        shutil.copytree(tmp_path, tmp_path / "crashed")
        with opened(tmp_path / "crashed") as crashed:
            assert crashed.usage().objects == 2000
        assert len(paths(store)) == 2500


def test_a_crash_never_brings_an_older_version_back(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        put(store, A, b"old", "v1")
        put(store, B, b"other")
        store.flush()
        put(store, A, b"new", "v2")
        put(store, C, b"not flushed")
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    with opened(tmp_path / "crashed") as crashed:
        assert paths(crashed) == [B]


@pytest.mark.parametrize("stream_above", [0, 100])
def test_a_directory_that_disappears(tmp_path: Path, stream_above: int) -> None:
    with opened(tmp_path, stream_above=stream_above) as store:
        shutil.rmtree(tmp_path)
        with pytest.raises(StoreError, match="No such file"):
            put(store, A, b"1234")
        assert store.usage().objects == 0
        assert store.usage().failed == (str(tmp_path),)


# Processes

WRITER = """
import os, random, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from preheat.settings import StoreSettings
from preheat.store import DiskStore

settings = StoreSettings(pack_size=200_000, stream_above=50_000, segment_size=20_000)
store = DiskStore(Path(sys.argv[1]), capacity=1 << 30, settings=settings)

def write(thread):
    for number in range(100_000):
        name, etag = f"{thread}/{number % 50}", str(random.randrange(1 << 30))
        data = random.Random(etag).randbytes(random.Random(etag).randrange(80_000))
        os.write(1, f"begin {name}\\n".encode())
        with store.writer(f"s3://x/{name}", etag=etag, size=len(data), last_modified=0) as writer:
            writer.append(data[:1000])
            writer.append(data[1000:])
            writer.commit()
        store.flush()
        os.write(1, f"done {name}\\n".encode())

with ThreadPoolExecutor(3) as threads:
    list(threads.map(write, range(3)))
"""


@contextmanager
def child(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_after_kill_9_every_visible_object_is_whole_and_every_acknowledged_one_is_there(
    tmp_path: Path,
) -> None:
    said: dict[str, str] = {}  # by name: a version that was being replaced may be gone, with the one in its place
    for count in (2, 200, 800):
        with child(WRITER, tmp_path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(count)]
            process.send_signal(signal.SIGKILL)
            lines += [line for line in process.stdout if line.endswith("\n")]
        said |= {name: what for what, name in map(str.split, lines)}
        acknowledged = {name for name, what in said.items() if what == "done"}
        with opened(tmp_path, 1 << 30) as store:
            assert acknowledged <= {item.path.removeprefix("s3://x/") for item in store.scan()}
            for item in store.scan():
                assert store.read(item) == written_by_child(item)
            volume = store._volumes[0]
            assert volume._files.found().keys() == volume._holdings.catalog.packs.keys()


def written_by_child(item: CachedObject) -> bytes:
    return random.Random(item.etag).randbytes(random.Random(item.etag).randrange(80_000))


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), child(WRITER, tmp_path) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"StoreInUse: The page store in {tmp_path} is open in another process. Stop the other" in errors


def test_the_directory_is_free_after_close(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreInUse, match=str(tmp_path)):
        DiskStore(tmp_path, capacity=1000)
    DiskStore(tmp_path, capacity=1000).close()
