"""The disk store when files, disks and clocks go wrong: nothing wrong is served, and the counters tell."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from preheat.errors import CorruptPage, NotFound, ObjectNotFound, StoreError, StoreFull
from preheat.settings import StoreSettings
from preheat.store import BLOCK_SIZE, DiskStore
from preheat.store._files import _OpenFile
from preheat.store._format import describe, encode_record
from preheat.store._writer import announce
from tests.unit.store_conformance import ALL_OF_IT, A, B, C, content, paths, put
from tests.unit.store_crashes import Crash, dying_after, spoil_index

SETTINGS = replace(ALL_OF_IT, pack_size=4000, stream_above=1500, segment_size=1000)


def opened(*directories: Path, capacity: int = 1 << 20, settings: StoreSettings = SETTINGS) -> closing[DiskStore]:
    return closing(DiskStore(*directories, capacity=capacity, settings=settings))


def filled(directory: Path) -> dict[tuple[str, str], bytes]:
    """Store small and large objects, delete some and replace some; return what is left, by path and etag."""
    left: dict[tuple[str, str], bytes] = {}
    with opened(directory) as store:
        for number in range(30):
            path, data = f"s3://x/{number:02d}", content(number * 97, number)
            put(store, path, b"replaced", "v1")
            put(store, path, data, "v2")
            if number % 5:
                left[path, "v2"] = data
            else:
                store.delete(path)
    return left


def lose_index(directory: Path) -> None:
    for file in directory.glob("index.sqlite*"):
        file.unlink()


# Damage


def test_a_lost_index_is_rebuilt_and_nothing_that_went_comes_back(tmp_path: Path) -> None:
    left = filled(tmp_path)
    lose_index(tmp_path)
    with opened(tmp_path) as store:
        assert {(item.path, item.etag): store.read(item) for item in store.scan()} == left
        assert store.usage().damaged == 0
        assert store.usage().used == sum(map(len, left.values()))
    with opened(tmp_path) as store:
        assert {(item.path, item.etag) for item in store.scan()} == left.keys()


def test_an_index_that_is_no_database_is_rebuilt(tmp_path: Path) -> None:
    left = filled(tmp_path)
    lose_index(tmp_path)
    (tmp_path / "index.sqlite").write_bytes(b"this is no database" * 100)
    with opened(tmp_path) as store:
        assert {(item.path, item.etag): store.read(item) for item in store.scan()} == left


@pytest.mark.parametrize("index", ["kept", "lost"])
@pytest.mark.parametrize("kind", ["index.sqlite", "packs/*", "segments/*"])
def test_flipped_bits_are_never_served(tmp_path: Path, kind: str, index: str) -> None:
    left = filled(tmp_path / "whole")
    missing = 0
    for seed in range(12):
        directory = tmp_path / str(seed)
        shutil.copytree(tmp_path / "whole", directory)
        chance = random.Random(seed)
        if index == "lost" and kind != "index.sqlite":
            lose_index(directory)
        for file in directory.glob(kind):
            flip_bits(file, chance, count=1 + 2 * (index == "lost"))
        found = readable(directory)
        assert found.items() <= left.items()
        missing += len(left) - len(found)
    assert missing


def flip_bits(file: Path, chance: random.Random, *, count: int) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def readable(directory: Path) -> dict[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}
    try:
        with opened(directory) as store:
            for item in list(store.scan()):
                try:
                    found[item.path, item.etag] = store.read(item)
                except (CorruptPage, NotFound):
                    continue
    except StoreError:  # the bits that say which format the index has
        assert not found
    return found


def test_a_damaged_record_is_skipped_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for path in (A, B, C):
            put(store, path, path.encode())
    [pack] = (tmp_path / "packs").iterdir()
    at = pack.read_bytes().index(B.encode())
    with pack.open("r+b") as file:
        file.seek(at)
        file.write(b"S")
    lose_index(tmp_path)
    with opened(tmp_path) as store:
        assert [store.read(item).decode() for item in store.scan()] == [A, C]
        assert store.usage().damaged == 1


def test_data_cannot_pose_as_a_record(tmp_path: Path) -> None:
    posing = announce(B, etag="v1", size=3, last_modified=0, job_id="")
    with opened(tmp_path) as store:
        item = put(store, A, encode_record(describe(posing), sequence=99, salt=bytes(8)) + b"bad")
        assert item.size < 1500
    [pack] = (tmp_path / "packs").iterdir()
    with pack.open("r+b") as file:
        file.seek(pack.read_bytes().index(b"LIVE") + 4)
        file.write(b"????")  # its own record, so that what is next is looked for
    lose_index(tmp_path)
    with opened(tmp_path) as store:
        assert paths(store) == []
        assert store.usage().damaged == 1


def test_a_row_of_another_place_is_not_believed(tmp_path: Path) -> None:
    settings = replace(SETTINGS, entries_in_memory=1)
    with opened(tmp_path, settings=settings) as store:
        for path in (A, B, C):
            put(store, path, path.encode())
        store.flush()
        store._volumes[0]._holdings.index._db.execute("UPDATE objects SET file_end = file_end + 1 WHERE path = ?", (A,))
        assert store.lookup(A) is None
        assert paths(store) == [B, C]


# Disks


@contextmanager
def failing(directory: Path, code: int, name: str = "write") -> Iterator[None]:
    """Let the disk of a directory refuse to do something."""
    method = getattr(_OpenFile, name)
    descriptors = Path("/proc/self/fd")

    def refuse(self: _OpenFile, *args: object, **options: object) -> object:
        if directory in (descriptors / str(self.descriptor)).readlink().parents:
            raise OSError(code, os.strerror(code))
        return method(self, *args, **options)

    with patch.object(_OpenFile, name, refuse):
        yield


def three(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in "123"]


def objects(count: int = 30) -> list[str]:
    return [f"s3://x/{number:03d}" for number in range(count)]


def home_of(store: DiskStore, path: str) -> Path:
    found = store._locate(path)
    assert found is not None
    return found[0].directory


def test_a_full_disk_refuses_and_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        kept = put(store, A, b"old")
        for size in (100, 3000):
            with failing(tmp_path, errno.ENOSPC), pytest.raises(StoreFull, match="No space left"):
                put(store, A, content(size), "v2")
        assert store.read(kept) == b"old"
        assert store.usage().failed == ()
        assert store.read(put(store, A, content(3000), "v2")) == content(3000)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_given_up_and_the_others_go_on(tmp_path: Path, code: int) -> None:
    with opened(*three(tmp_path)) as store, capture_logs() as logs:
        items = {path: put(store, path, path.encode()) for path in objects()}
        store.flush()
        homes = {path: home_of(store, path) for path in items}
        assert set(homes.values()) == set(three(tmp_path))
        lost = homes[objects()[0]]
        with failing(lost, code), pytest.raises(StoreError, match=os.strerror(code)):
            put(store, objects()[0], b"new", "v2")
        assert store.usage().failed == (str(lost),)
        assert store.usage().capacity == 2 * ((1 << 20) // 3)
        assert paths(store) == [path for path in objects() if homes[path] != lost]
        with pytest.raises(ObjectNotFound):
            store.read(items[objects()[0]])
        for path in objects():
            assert store.read(put(store, path, b"new", "v2")) == b"new"
            assert home_of(store, path) == homes[path] or homes[path] == lost
        store.flush()
    assert [log["action"] for log in logs] == ["directory_failed"]
    with opened(*three(tmp_path)) as store:  # the disk was away when objects of it were replaced
        found = {item.path: item.etag for item in store.scan()}
        assert set(found.values()) == {"v2"}
        assert found.keys() == {path for path in objects() if homes[path] != lost}


def test_a_disk_that_cannot_be_read_is_given_up(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        items = [put(store, path, b"data") for path in objects(5)]
        with failing(tmp_path, errno.EIO, "read"):
            for item in items[:2]:
                with pytest.raises(CorruptPage):
                    store.read(item)
            with pytest.raises(ObjectNotFound):
                store.read(items[2])
        assert store.usage().failed == (str(tmp_path),)
        with pytest.raises(StoreError, match="No directory"):
            put(store, A, b"1")
        store.close()
    with opened(tmp_path) as store:
        assert store.usage().failed == ()


def test_a_directory_that_vanishes_is_noticed_by_the_next_flush(tmp_path: Path) -> None:
    with opened(*three(tmp_path)) as store:
        for path in objects():
            put(store, path, b"1")
        lost = home_of(store, objects()[0])
        shutil.rmtree(lost)
        with pytest.raises(StoreError, match="No such file"):
            store.flush()
        store.flush()
        assert store.usage().failed == (str(lost),)


def test_a_directory_that_cannot_be_opened_is_left_out(tmp_path: Path) -> None:
    directories = three(tmp_path)
    directories[1].write_bytes(b"a file")
    with opened(*directories) as store:
        assert store.usage().failed == (str(directories[1]),)
        assert store.read(put(store, A, b"1")) == b"1"
    with pytest.raises(StoreError, match="File exists"):
        DiskStore(directories[1], capacity=1000)


def test_a_directory_that_is_added_or_left_out_brings_nothing_back(tmp_path: Path) -> None:
    def put_all(etag: str) -> Callable[[DiskStore], None]:
        return lambda store: [put(store, path, etag.encode(), etag) for path in objects()] and None

    steps: list[tuple[list[Path], str]] = [(three(tmp_path), "v1"), (three(tmp_path)[:2], "v2"), (three(tmp_path), "")]
    for directories, etag in steps:
        with opened(*directories) as store:
            found = {item.path: item.etag for item in store.scan()}
            if etag:
                put_all(etag)(store)
    assert set(found.values()) == {"v2"}
    assert 5 < len(found) < 30


# Clocks


def test_a_clock_that_jumps_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, pack_size=1)
    with opened(tmp_path, capacity=40_000, settings=settings) as store:
        for number, moment in enumerate([1e9, 5e8, 2e9, 1e3]):
            monkeypatch.setattr("preheat.store._writer.time.time", lambda moment=moment: moment)
            put(store, f"s3://x/{number}", b"x" * 1400)
            put(store, A, b"%d" % number, f"v{number}")
        for number in range(4, 27):
            put(store, f"s3://x/{number}", b"x" * 1400)
        assert "s3://x/0" not in paths(store)
        assert store.lookup("s3://x/26")
        shutil.copytree(tmp_path, tmp_path.with_name("crashed"))
    lose_index(tmp_path.with_name("crashed"))
    with opened(tmp_path.with_name("crashed"), settings=settings) as store:
        item = store.lookup(A)
        assert item is None or item.etag == "v3"


# Eviction on disk


def test_how_objects_were_used_survives_a_restart(tmp_path: Path) -> None:
    settings = replace(SETTINGS, pack_size=1)
    with opened(tmp_path, capacity=10_000, settings=settings) as store:
        items = [put(store, f"s3://x/{number}", b"x" * 1400) for number in range(6)]
        store.read(items[0])
    with opened(tmp_path, capacity=10_000, settings=settings) as store:
        put(store, A, b"x" * 1400)
        put(store, B, b"x" * 1400)
        assert store.lookup("s3://x/0")
        assert store.lookup("s3://x/1") is None


def test_pins_survive_a_lost_index(tmp_path: Path) -> None:
    with opened(*three(tmp_path)) as store:
        store.pin("s3://x/")
    lose_index(tmp_path / "1")
    (tmp_path / "1" / "pins.json").write_bytes(b"damaged")
    with opened(*three(tmp_path)) as store:
        assert store.pins() == ("s3://x/",)


def test_what_is_read_often_is_carried_out_of_a_pack_that_goes(tmp_path: Path) -> None:
    settings = StoreSettings(pack_size=20_000)
    with opened(tmp_path, capacity=320_000, settings=settings) as store:
        items = [put(store, f"s3://x/{number:03d}", content(1000, number)) for number in range(200)]
        wanted = items[3:60:19]
        for number in range(200, 600):
            put(store, f"s3://x/{number:03d}", content(1000, number))
            for item in wanted:
                assert store.read(item) == content(1000, int(item.path[-3:]))
        assert store.usage().evicted > 250
        store.flush()
        disk = sum(file.stat().st_size for file in (tmp_path / "packs").iterdir())
        assert disk <= 320_000
    with opened(tmp_path, capacity=320_000, settings=settings) as store:
        assert [store.lookup(item.path) for item in wanted] == wanted


def test_packs_that_are_half_dead_go_first(tmp_path: Path) -> None:
    settings = StoreSettings(pack_size=20_000)
    with opened(tmp_path, capacity=320_000, settings=settings) as store:
        for number in range(230):
            put(store, f"s3://x/{number:03d}", content(1000, number))
        for number in range(170, 190):
            if number % 4:
                store.delete(f"s3://x/{number:03d}")
        living = store.usage().objects
        for number in range(300, 345):
            put(store, f"s3://x/{number:03d}", content(1000, number))
        assert all(store.lookup(f"s3://x/{number}") for number in (172, 176, 180, 184))
        assert store.usage().objects > living


@pytest.mark.parametrize("index", ["kept", "torn", "deleted"])
def test_a_crash_while_room_is_made_loses_no_pinned_object_and_serves_nothing_wrong(tmp_path: Path, index: str) -> None:
    settings = StoreSettings(pack_size=4000, stream_above=1500, segment_size=1000)
    pinned = [f"s3://pinned/{number}" for number in range(8)]
    for step in range(0, 100, 9):
        before, after = tmp_path / str(step), tmp_path / f"{step}-crashed"
        store = DiskStore(before, capacity=64_000, settings=settings)
        store.pin("s3://pinned/")
        for number, path in enumerate(pinned):
            put(store, path, path.encode())
            put(store, f"s3://x/{number}", content(1400, number))
        for number in range(8, 36):
            put(store, f"s3://x/{number}", content(1400 + number % 2 * 1000, number))
        store.flush()
        with suppress(Crash), dying_after(step):
            for number in range(36, 60):
                put(store, f"s3://x/{number}", content(1400 + number % 2 * 1000, number))
        shutil.copytree(before, after)
        store.close()
        spoil_index(after, index)
        with opened(after, capacity=64_000, settings=settings) as crashed:
            for item in crashed.scan():
                number = int(item.path.rpartition("/")[2])
                assert crashed.read(item) in (item.path.encode(), content(item.size, number))
            if index != "torn":
                assert paths(crashed, "s3://pinned/") == pinned


# Memory


def test_entries_in_memory_are_bounded_and_those_in_use_stay(tmp_path: Path) -> None:
    with opened(tmp_path, settings=replace(SETTINGS, entries_in_memory=20)) as store:
        used = put(store, A, b"used")
        for path in objects(200):
            put(store, path, b"1")
            store.read(used)
        entries = store._volumes[0]._holdings.entries
        assert len(entries._map) == 20
        assert entries.get(A)
        assert [store.lookup(path) for path in objects(200)] == list(store.scan("s3://x/"))
        assert len(entries._map) == 20


def test_blocks_of_a_large_object_cross_its_segments(tmp_path: Path) -> None:
    data = content(3 * BLOCK_SIZE)
    with opened(tmp_path) as store:
        item = put(store, A, data)
        assert len(list((tmp_path / "segments").iterdir())) == -(-len(data) // 1000)
        assert store.read(item, 999, BLOCK_SIZE + 1001) == data[999 : BLOCK_SIZE + 1001]
