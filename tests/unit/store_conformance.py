"""What every page store must do. A store's test module subclasses :class:`StoreConformance`."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Protocol

import pytest
from awscrt.checksums import crc32c

from preheat.errors import CorruptPage, InvalidRequest, NotFound, StoreError, StoreFull, VersionChanged
from preheat.settings import StoreSettings
from preheat.store import BLOCK_SIZE, PAGE_SIZE, CachedObject, PageStore

MIB = 1 << 20
A, B, C = "s3://bucket/a", "s3://bucket/b", "s3://bucket/c"
ALL_OF_IT = StoreSettings(high_watermark=1, low_watermark=1)


class StoreFactory(Protocol):
    def __call__(self, capacity: int, settings: StoreSettings = ALL_OF_IT) -> PageStore: ...


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(store: PageStore, path: str, data: bytes, etag: str = "v1") -> CachedObject:
    with store.writer(path, etag=etag, size=len(data), last_modified=1.5, job_id="job") as writer:
        if data:
            writer.append(data)
        return writer.commit()


def paths(store: PageStore, prefix: str = "") -> list[str]:
    return [item.path for item in store.scan(prefix)]


class StoreFixtures(ABC):
    @abstractmethod
    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore: ...

    @abstractmethod
    def flip_bit(self, store: PageStore, path: str, position: int) -> None:
        """Damage one stored byte of an object behind the store's back."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Iterator[StoreFactory]:
        with ExitStack() as stack:

            def make(capacity: int, settings: StoreSettings = ALL_OF_IT) -> PageStore:
                return stack.enter_context(closing(self.open_store(tmp_path, capacity, settings)))

            yield make

    @pytest.fixture
    def store(self, make_store: StoreFactory) -> PageStore:
        return make_store(64 * MIB)


class CapacityConformance(StoreFixtures):
    def test_the_oldest_make_room(self, make_store: StoreFactory) -> None:
        store = make_store(100_000)
        for path in (A, B):
            put(store, path, b"x" * 49_000)
        assert paths(store) == [A, B]
        put(store, C, b"x" * 30_000)
        assert paths(store) == [B, C]
        assert (store.usage().capacity, store.usage().used, store.usage().evicted) == (100_000, 79_000, 1)

    def test_one_object_may_fill_a_store(self, make_store: StoreFactory) -> None:
        store = make_store(100_000)
        put(store, A, b"x" * 99_000)
        assert store.usage().used == 99_000
        put(store, B, b"y" * 99_000)
        assert paths(store) == [B]

    def test_what_is_larger_than_the_store_drops_nothing(self, make_store: StoreFactory) -> None:
        store = make_store(100_000)
        kept = put(store, A, b"x" * 60_000)
        with store.writer(B, etag="v1", size=100_001, last_modified=0) as writer, pytest.raises(StoreFull):
            writer.append(b"y")
        assert store.read(kept) == b"x" * 60_000
        assert store.usage().evicted == 0

    def test_deleting_everything_makes_room(self, make_store: StoreFactory) -> None:
        store = make_store(100_000)
        for number in range(10):
            put(store, A, b"x" * 90_000, f"v{number}")
            assert store.delete(A)
        put(store, B, b"x" * 99_000)
        assert store.usage().evicted == 0

    def test_above_the_high_watermark_it_goes_down_to_the_low_one(self, make_store: StoreFactory) -> None:
        store = make_store(200_000, StoreSettings(high_watermark=0.9, low_watermark=0.5))
        used = []
        for number in range(40):
            put(store, f"s3://x/{number:02d}", b"x" * 9_000)
            used.append(store.usage().used)
        highest = max(used)
        assert 160_000 < highest <= 180_000
        assert min(used[used.index(highest) :]) <= 100_000
        assert paths(store)[-1] == "s3://x/39"

    # Eviction

    @pytest.mark.parametrize(
        ("policy", "kept"),
        [
            ("fifo", ["5", "6", "7"]),
            ("lru", ["2", "6", "7"]),
            ("lfu", ["1", "6", "7"]),
            ("scan-resistant", ["1", "2", "7"]),
        ],
    )
    def test_policies(self, make_store: StoreFactory, policy: str, kept: list[str]) -> None:
        store = make_store(60_000, StoreSettings(eviction=policy, high_watermark=1, low_watermark=1))
        items = {name: put(store, f"s3://x/{name}", content(10_000, int(name))) for name in "12345"}
        for name in "111112232":
            store.read(items[name])
        for name in "67":
            put(store, f"s3://x/{name}", b"x" * 19_000)
        left = [path.removeprefix("s3://x/") for path in paths(store)]
        assert sorted(left)[-len(kept) :] == kept or set(kept) <= set(left)
        assert store.usage().evicted == 7 - len(left)

    def test_pinned_objects_stay(self, make_store: StoreFactory) -> None:
        store = make_store(100_000)
        pinned = [put(store, f"s3://pinned/{number}", content(10_000, number)) for number in range(4)]
        store.pin("s3://pinned/")
        for number in range(40):
            put(store, f"s3://x/{number}", b"x" * 9_000)
        assert [store.read(item) for item in pinned] == [content(10_000, number) for number in range(4)]
        with pytest.raises(StoreFull, match="pinned"):
            put(store, A, b"y" * 70_000)
        assert paths(store, "s3://pinned/") == [item.path for item in pinned]
        assert store.unpin("s3://pinned/")
        assert not store.unpin("s3://pinned/")
        put(store, A, b"y" * 70_000)
        assert store.usage().used <= 100_000

    def test_pins_are_listed(self, store: PageStore) -> None:
        for prefix in ("s3://b/", "s3://a/", "s3://b/"):
            store.pin(prefix)
        assert store.pins() == ("s3://a/", "s3://b/")


class StoreConformance(StoreFixtures):
    # Publishing

    def test_what_was_written_is_read(self, store: PageStore) -> None:
        item = put(store, A, b"hello")
        assert store.lookup(A) == item
        assert (item.path, item.etag, item.size, item.last_modified, item.job_id) == (A, "v1", 5, 1.5, "job")
        assert item.cached_at > 1e9
        assert store.read(item) == b"hello"
        usage = store.usage()
        assert (usage.used, usage.objects, usage.evicted, usage.corrupt) == (5, 1, 0, 0)

    def test_nothing_is_visible_before_the_commit(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=4, last_modified=0) as writer:
            writer.append(b"1234")
            assert store.lookup(A) is None
            assert paths(store) == []
            assert store.usage().objects == 0
            writer.commit()
        assert paths(store) == [A]

    def test_leaving_without_commit_discards(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=4, last_modified=0) as writer:
            writer.append(b"1234")
        assert store.lookup(A) is None
        assert store.usage().used == 0

    def test_an_error_discards_and_keeps_the_old_version(self, store: PageStore) -> None:
        old = put(store, A, b"old")
        with suppress(ConnectionResetError), store.writer(A, etag="v2", size=4, last_modified=0) as writer:
            writer.append(b"12")
            raise ConnectionResetError
        assert store.read(old) == b"old"

    @pytest.mark.parametrize("pieces", [[], [b"123"], [b"123", b"45"], [b"12345", b"6"]])
    def test_a_wrong_length_is_refused(self, store: PageStore, pieces: list[bytes]) -> None:
        old = put(store, A, b"old")
        with store.writer(A, etag="v2", size=4, last_modified=0) as writer:
            for piece in pieces:
                writer.append(piece)
            with pytest.raises(VersionChanged, match=f"4 bytes, but {len(b''.join(pieces))} came"):
                writer.commit()
        assert store.read(old) == b"old"
        assert store.usage().used == 3

    def test_an_empty_object(self, store: PageStore) -> None:
        item = put(store, A, b"")
        assert item.checksums == b""
        assert store.read(item) == b""
        store.verify(item)
        assert (store.usage().used, store.usage().objects) == (0, 1)

    def test_an_object_of_several_blocks_in_uneven_pieces(self, store: PageStore) -> None:
        data = content(5 * PAGE_SIZE // 2 + 7)
        with store.writer(A, etag="v1", size=len(data), last_modified=0) as writer:
            for start in range(0, len(data), 700_001):
                writer.append(memoryview(data)[start : start + 700_001])
            item = writer.commit()
        blocks = [data[start : start + BLOCK_SIZE] for start in range(0, len(data), BLOCK_SIZE)]
        assert item.checksums == b"".join(crc32c(block).to_bytes(4, "little") for block in blocks)
        assert store.read(item) == data
        store.verify(item)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
    def test_parts_may_come_in_any_order(self, store: PageStore, order: tuple[int, ...]) -> None:
        data = content(2 * PAGE_SIZE + 10)
        whole = put(store, B, data)
        with store.writer(A, etag="v1", size=len(data), last_modified=0) as writer:
            for half in range(2):
                for part in order:
                    start = part * PAGE_SIZE + half * 5
                    end = min((part + 1) * PAGE_SIZE, len(data)) if half else start + 5
                    writer.append(data[start:end], part=part * PAGE_SIZE)
            item = writer.commit()
        assert item.checksums == whole.checksums
        assert store.read(item) == data

    def test_a_missing_part_is_refused(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=3 * PAGE_SIZE, last_modified=0) as writer:
            for part in (0, 2):
                writer.append(content(PAGE_SIZE), part=part * PAGE_SIZE)
            with pytest.raises(VersionChanged, match=f"but {PAGE_SIZE} came"):
                writer.commit()
        assert paths(store) == []

    def test_appended_memory_may_be_reused(self, store: PageStore) -> None:
        chunk = bytearray(b"1234")
        with store.writer(A, etag="v1", size=8, last_modified=0) as writer:
            writer.append(memoryview(chunk))
            chunk[:] = b"5678"
            writer.append(memoryview(chunk))
            chunk[:] = b"xxxx"
            item = writer.commit()
        assert store.read(item) == b"12345678"

    @pytest.mark.parametrize("size", [0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, PAGE_SIZE])
    def test_bytes_at_hand_are_put_as_a_writer_would(self, store: PageStore, size: int) -> None:
        written, old = put(store, A, content(size)), put(store, B, b"old")
        data = bytearray(content(size))
        item = store.put(B, memoryview(data), etag="v2", last_modified=1.5, job_id="job", attributes="a: b\r\n")
        data[:] = bytes(size)
        assert store.read(item) == content(size)
        assert (item.checksums, item.job_id, item.attributes) == (written.checksums, "job", "a: b\r\n")
        assert store.lookup(B) == item
        store.verify(item)
        with pytest.raises(VersionChanged):
            store.read(old)
        assert store.usage().used == 2 * size

    def test_bytes_at_hand_that_do_not_fit_drop_nothing(self, make_store: StoreFactory) -> None:
        store = make_store(PAGE_SIZE)
        put(store, A, b"kept")
        with pytest.raises(StoreFull):
            store.put(B, bytes(PAGE_SIZE + 1), etag="v1", last_modified=0)
        assert paths(store) == [A]

    def test_a_writer_serves_one_object(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=1, last_modified=0) as writer:
            writer.append(b"1")
            writer.commit()
            with pytest.raises(StoreError, match="closed"):
                writer.append(b"2")
            with pytest.raises(StoreError, match="closed"):
                writer.commit()
        assert paths(store) == [A]

    # Following a writer

    def test_what_was_appended_is_read_before_and_after_the_commit(self, store: PageStore) -> None:
        data = content(2 * PAGE_SIZE + 10)
        with store.writer(A, etag="v1", size=len(data), last_modified=0) as writer:
            for start in range(0, len(data), 700_001):
                writer.append(data[start : start + 700_001])
                end = min(start + 700_001, len(data))
                for first, last in [(0, end), (end, end), (end - 1, end), (BLOCK_SIZE - 1, BLOCK_SIZE + 1)]:
                    assert writer.read(first, last) == data[first:last]
            writer.commit()
        assert writer.read(0, len(data)) == data

    def test_parts_are_read_as_they_come(self, store: PageStore) -> None:
        data = content(3 * PAGE_SIZE)
        with store.writer(A, etag="v1", size=len(data), last_modified=0) as writer:
            writer.append(data[PAGE_SIZE : 2 * PAGE_SIZE], part=PAGE_SIZE)
            for start, end in [(0, 1), (PAGE_SIZE - 1, PAGE_SIZE + 1), (PAGE_SIZE, 2 * PAGE_SIZE + 1)]:
                with pytest.raises(InvalidRequest, match="not written yet"):
                    writer.read(start, end)
            assert writer.read(PAGE_SIZE + 5, 2 * PAGE_SIZE) == data[PAGE_SIZE + 5 : 2 * PAGE_SIZE]
            writer.append(data[:PAGE_SIZE])
            assert writer.read(3, 2 * PAGE_SIZE - 3) == data[3 : 2 * PAGE_SIZE - 3]

    def test_what_exceeds_the_announced_size_is_not_read(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=4, last_modified=0) as writer:
            writer.append(b"123456")
            assert writer.read(0, 4) == b"1234"
            with pytest.raises(InvalidRequest):
                writer.read(0, 5)

    def test_discarded_bytes_are_not_read(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=4, last_modified=0) as writer:
            writer.append(b"12")
        with pytest.raises(StoreError, match="discarded"):
            writer.read(0, 2)

    def test_readers_follow_the_parts_of_several_threads(self, store: PageStore) -> None:
        data = content(8 * PAGE_SIZE)
        appended = dict.fromkeys(range(0, len(data), PAGE_SIZE), 0)
        with (
            store.writer(A, etag="v1", size=len(data), last_modified=0) as writer,
            ThreadPoolExecutor(8) as threads,
        ):

            def write(part: int) -> None:
                for start in range(part, part + PAGE_SIZE, 50_000):
                    end = min(start + 50_000, part + PAGE_SIZE)
                    writer.append(data[start:end], part=part)
                    appended[part] = end - part

            def follow(part: int) -> None:
                while (size := appended[part]) < PAGE_SIZE:
                    assert writer.read(part, part + size) == data[part : part + size]

            followers = [threads.submit(follow, part) for part in list(appended)[:4]]
            writers = [threads.submit(write, part) for part in appended]
            for done in writers + followers:
                done.result(timeout=30)
            assert writer.read(0, len(data)) == data

    # Versions

    def test_a_new_version_replaces_the_old_one(self, store: PageStore) -> None:
        old = put(store, A, b"old", "v1")
        with store.writer(A, etag="v2", size=5, last_modified=0) as writer:
            writer.append(b"newer")
            assert store.read(old) == b"old"
            new = writer.commit()
        assert store.read(new) == b"newer"
        with pytest.raises(VersionChanged, match="v2"):
            store.read(old)
        with pytest.raises(VersionChanged):
            store.verify(old)
        assert (store.usage().used, store.usage().objects) == (5, 1)

    def test_the_same_etag_with_another_size_is_another_version(self, store: PageStore) -> None:
        old = put(store, A, b"123")
        put(store, A, b"1234")
        with pytest.raises(VersionChanged):
            store.read(old, 0, 3)

    def test_the_same_version_written_again_is_the_same(self, store: PageStore) -> None:
        item = put(store, A, b"same")
        put(store, A, b"same")
        assert store.read(item) == b"same"

    def test_the_last_of_two_writers_wins(self, store: PageStore) -> None:
        with (
            store.writer(A, etag="v1", size=1, last_modified=0) as first,
            store.writer(A, etag="v2", size=1, last_modified=0) as second,
        ):
            first.append(b"1")
            second.append(b"2")
            second.commit()
            item = first.commit()
        assert store.lookup(A) == item
        assert store.read(item) == b"1"

    # Reading

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, None),
            (0, 1),
            (5, 5),
            (BLOCK_SIZE - 1, BLOCK_SIZE + 1),
            (BLOCK_SIZE, BLOCK_SIZE),
            (BLOCK_SIZE, 3 * BLOCK_SIZE),
            (PAGE_SIZE - 1, PAGE_SIZE + 1),
            (PAGE_SIZE, 2 * PAGE_SIZE),
            (PAGE_SIZE, PAGE_SIZE),
            (PAGE_SIZE + 3, 2 * PAGE_SIZE + 2),
            (2 * PAGE_SIZE + 9, None),
            (2 * PAGE_SIZE + 9, 9 * PAGE_SIZE),
            (9 * PAGE_SIZE, None),
            (7, 3),
        ],
    )
    def test_ranges(self, store: PageStore, start: int, end: int | None) -> None:
        data = content(2 * PAGE_SIZE + 10)
        put(store, B, b"before")
        item = put(store, A, data)
        assert store.read(item, start, end) == data[start:end]

    @pytest.mark.parametrize(("start", "end"), [(-1, None), (0, -1)])
    def test_a_negative_bound_is_refused(self, store: PageStore, start: int, end: int | None) -> None:
        with pytest.raises(InvalidRequest, match=f"range={start}-"):
            store.read(put(store, A, b"1234"), start, end)

    def test_small_objects_are_read_together(self, store: PageStore) -> None:
        items = [put(store, path, data) for path, data in ((A, b"1"), (B, b""), (C, content(BLOCK_SIZE)))]
        assert store.read_small([C, A, B]) == [(items[2], content(BLOCK_SIZE)), (items[0], b"1"), (items[1], b"")]
        put(store, B, content(BLOCK_SIZE + 1))
        assert store.read_small([A, B, C]) == [(items[0], b"1")]
        assert store.read_small(["s3://none", A]) == []
        self.flip_bit(store, C, 3)
        assert store.read_small([A, C, A]) == [(items[0], b"1")]

    @pytest.mark.parametrize("check", ["read", "verify"])
    def test_a_damaged_block_is_never_served(self, store: PageStore, check: str) -> None:
        put(store, B, b"untouched")
        item = put(store, A, content(2 * PAGE_SIZE))
        self.flip_bit(store, A, BLOCK_SIZE + 17)
        assert store.read(item, 0, BLOCK_SIZE) == content(2 * PAGE_SIZE)[:BLOCK_SIZE]
        assert store.read(item, 2 * BLOCK_SIZE) == content(2 * PAGE_SIZE)[2 * BLOCK_SIZE :]
        with pytest.raises(CorruptPage, match=A):
            store.read(item, BLOCK_SIZE, BLOCK_SIZE + 1) if check == "read" else store.verify(item)
        assert paths(store) == [B]
        assert store.usage().corrupt == 1
        with pytest.raises(NotFound):
            store.read(item)
        assert store.read(put(store, A, b"again")) == b"again"

    # Deleting and scanning

    def test_delete(self, store: PageStore) -> None:
        item = put(store, A, b"1234")
        put(store, B, b"5")
        assert store.delete(A)
        assert not store.delete(A)
        assert store.lookup(A) is None
        with pytest.raises(NotFound):
            store.read(item)
        with pytest.raises(NotFound):
            store.verify(item)
        assert (store.usage().used, store.usage().objects, store.usage().evicted) == (1, 1, 0)

    def test_scan_is_in_the_order_of_utf8_below_the_prefix(self, store: PageStore) -> None:
        names = ["b/2", "b/10", "b", "bb", "B", "b/é", "b/\uffee", "b/\U0001f600", "a/1"]
        for name in names:
            put(store, f"s3://x/{name}", name.encode())
        assert paths(store) == sorted((f"s3://x/{name}" for name in names), key=str.encode)
        assert paths(store, "s3://x/b/1") == ["s3://x/b/10"]
        assert paths(store, "s3://x/b/") == [f"s3://x/b/{end}" for end in ["10", "2", "é", "\uffee", "\U0001f600"]]
        assert paths(store, "s3://y") == []

    def test_scan_begins_after_a_path(self, store: PageStore) -> None:
        names = ["a", "b", "b/1", "b/10", "b/2", "b/\U0001f600", "c"]
        for name in names:
            put(store, f"s3://x/{name}", b"1")
        for position, name in enumerate(names):
            later = [f"s3://x/{other}" for other in names[position + 1 :]]
            assert [item.path for item in store.scan(after=f"s3://x/{name}")] == later
        for after, expected in [("", 4), ("s3://x/a", 4), ("s3://x/b/", 4), ("s3://x/b/1", 3), ("s3://x/c", 0)]:
            assert len([*store.scan("s3://x/b/", after=after)]) == expected

    def test_a_long_scan_is_whole_and_in_order(self, store: PageStore) -> None:
        for number in range(2500):
            put(store, f"s3://x/{number:05d}", b"")
        scan = store.scan("s3://x/", after="s3://x/00099")
        first = [next(scan).path for _ in range(1500)]
        store.delete("s3://x/02400")
        rest = [item.path for item in scan]
        assert first + rest == [f"s3://x/{number:05d}" for number in range(100, 2500) if number != 2400]

    def test_scan_goes_on_while_others_write(self, store: PageStore) -> None:
        for path in (A, B, C):
            put(store, path, b"1")
        scan = store.scan()
        assert next(scan).path == A
        store.delete(B)
        put(store, "s3://bucket/d", b"1")
        put(store, C, b"22", "v2")
        rest = [(item.path, item.etag) for item in scan if item.path != "s3://bucket/d"]
        assert rest == [(C, "v2")]

    # Closing and threads

    def test_close_discards_open_writers(self, store: PageStore) -> None:
        with store.writer(A, etag="v1", size=4, last_modified=0) as writer:
            writer.append(b"1234")
            store.close()
            with pytest.raises(StoreError, match="closed"):
                writer.commit()
        store.close()
        assert store.lookup(A) is None
        assert store.usage().objects == 0

    def test_threads_write_different_objects(self, store: PageStore) -> None:
        def work(number: int) -> CachedObject:
            return put(store, f"s3://x/{number:03d}", content(number * 1013, number))

        with ThreadPoolExecutor(8) as threads:
            items = list(threads.map(work, range(200)))
        assert list(store.scan()) == items
        for number, item in enumerate(items):
            assert store.read(item) == content(number * 1013, number)
        assert store.usage().used == sum(range(200)) * 1013

    def test_readers_never_see_a_wrong_byte_while_objects_come_and_go(self, make_store: StoreFactory) -> None:
        store = make_store(40_000)
        versions = {f"v{number}": content(2000 + number, number) for number in range(40)}
        done = threading.Event()

        def read() -> int:
            good = 0
            while True:
                last_round = done.is_set()
                for item in store.scan():
                    with suppress(NotFound, VersionChanged):
                        assert store.read(item) == versions[item.etag]
                        good += 1
                if last_round:
                    return good

        def write(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(150):
                path, etag = f"s3://x/{chance.randrange(25)}", f"v{chance.randrange(40)}"
                if chance.random() < 0.2:
                    store.delete(path)
                else:
                    put(store, path, versions[etag], etag)

        with ThreadPoolExecutor(4) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            writers = [threads.submit(write, seed) for seed in range(2)]
            try:
                for writer in writers:
                    writer.result(timeout=30)
            finally:
                done.set()
            assert all(reader.result(timeout=30) for reader in readers)
        usage = store.usage()
        assert usage.corrupt == 0
        assert usage.used == sum(item.size for item in store.scan()) <= usage.capacity
        assert usage.objects == len(paths(store))
