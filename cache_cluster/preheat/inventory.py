"""The inventory of a dataset: every object of one listing, in order, in compressed blocks. Pure.

What a job listed is known afterwards without listing again: it tells which version of each object a pinned dataset has,
what drifted at the under store, and what a directory holds.

A block holds columns (keys, sizes, etags, times) rather than rows, in MessagePack compressed by zlib: 28 bytes and
0.6 µs an object. Zstandard would take a tenth of that time, but is not in the standard library, and planning an
object takes many times as long.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from preheat.errors import ReadOnly
from preheat.versions import DatasetVersion, ObjectInfo

BLOCK_OBJECTS = 4096
"""Objects in one block; the last one of an inventory may have fewer."""
_LEVEL = 1
"""Of zlib: what higher ones save is a tenth, for three times the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """One listing that is known."""

    id: str
    path: str
    """URI that was listed: an object's, or a prefix ending with a slash (or standing for one)."""
    version: str
    """The dataset's version: ``sha256:…``."""
    objects: int
    bytes: int
    listed_at: float
    """When the listing began, in seconds since the epoch: what it tells was true no earlier."""
    job_id: str
    first_keys: tuple[str, ...]
    """The first key of each block, in order."""
    retired_at: float | None = None
    """When it was to be deleted: only readers that have begun, and a pin, still know it."""
    listing: bool = False
    """It is being made: nobody reads it, but whoever writes below its path retires it, and so it will not be kept."""

    def block_of(self, key: str) -> int:
        """Return the number of the block that would hold a key, or whatever follows it; 0 before the first."""
        return max(0, bisect_right(self.first_keys, key) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A path that is bound to one dataset version: its copies are never evicted, and nothing else is read there."""

    id: str
    path: str
    inventory: str
    """Id of the inventory that says which version of each object."""
    version: str
    pinned_at: float

    def refusal(self, uri: str) -> ReadOnly:
        """Return why something that it covers is not written."""
        return ReadOnly(
            f"path='{uri}' is pinned to the dataset version {self.version}.",
            remedy=f"Run `preheat fs unpin {self.path}` first; readers of that version lose it then.",
        )


def covering_paths(uri: str) -> Iterator[str]:
    """Yield the paths at and below which a URI may be, the longest first.

    ``s3://b/x/`` has below it what starts with it; ``s3://b/x`` is the object ``x`` and what starts with ``x/``.
    """
    if not uri.endswith("/"):
        yield uri
    end, bucket = len(uri), uri.find("://") + 3
    while (end := uri.rfind("/", bucket, end)) >= 0:
        yield uri[: end + 1]
        yield uri[:end]


class Coverage:
    """The inventories and pins at one moment, found by the URIs that they cover.

    Args:
        inventories: also retired ones, of which only those that are pinned are found, and those that are being made.
        pins: with ids and paths that differ.
    """

    def __init__(self, inventories: Iterable[Inventory] = (), pins: Iterable[Pin] = ()) -> None:
        known = sorted(inventories, key=_age)
        self.inventories = {item.id: item for item in known if not item.listing}
        self.pins = {pin.id: pin for pin in pins}
        self._pins_by_path = {pin.path: pin for pin in self.pins.values()}
        self._pinned = {pin.inventory for pin in self.pins.values()}
        self._current: dict[str, list[Inventory]] = defaultdict(list)
        self._latest: dict[str, Inventory] = {}
        for item in known:
            if item.retired_at is None:
                self._current[item.path].append(item)
                if not item.listing:
                    self._latest[item.path] = item

    def latest(self, uri: str) -> Inventory | None:
        """Return the inventory of the latest listing of which a URI was a part."""
        found = (self._latest[path] for path in covering_paths(uri) if path in self._latest)
        return max(found, key=_age, default=None)

    def current(self, uri: str) -> list[Inventory]:
        """Return the inventories of which a URI is a part and that are not retired, those that are being made too."""
        return [item for path in covering_paths(uri) if path in self._current for item in self._current[path]]

    def pin(self, uri: str) -> Pin | None:
        """Return the pin that covers a URI; of several the one of the longest path."""
        return next((self._pins_by_path[path] for path in covering_paths(uri) if path in self._pins_by_path), None)

    def is_pinned(self, inventory_id: str) -> bool:
        """Whether a pin needs an inventory."""
        return inventory_id in self._pinned

    def superseded(self) -> list[Inventory]:
        """Return the inventories that are to be retired: of their path there is a later one, and no pin needs them."""
        return [
            item
            for item in self.inventories.values()
            if item.retired_at is None and item is not self._latest[item.path] and not self.is_pinned(item.id)
        ]

    def expired(self, before: float) -> list[Inventory]:
        """Return the inventories that were retired before some time, in seconds since the epoch, and no pin needs."""
        return [
            item
            for item in self.inventories.values()
            if item.retired_at is not None and item.retired_at < before and not self.is_pinned(item.id)
        ]


def _age(inventory: Inventory) -> tuple[float, str]:
    return inventory.listed_at, inventory.id


class Position(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What the objects up to some point of a listing amount to; by default its beginning."""

    objects: int = 0
    bytes: int = 0
    version: str = ""
    """State of the dataset version's hash chain."""

    def after(self, objects: Sequence[ObjectInfo]) -> Position:
        """Return the position behind the objects that come next."""
        version = DatasetVersion(self.version)
        version.update(objects)
        return Position(
            objects=self.objects + len(objects),
            bytes=self.bytes + sum(item.size for item in objects),
            version=version.state,
        )


class BlockHead(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where a stored block stands: enough to tell if another one follows it, and to go on behind it."""

    first_key: str
    start: Position
    end: Position


class _HeadOfBlock(msgspec.Struct, frozen=True, array_like=True):
    """As much of a stored block as tells where it stands."""

    head: BlockHead


class _StoredBlock(_HeadOfBlock, frozen=True, array_like=True):
    """A block as the engine keeps it. Each part came in one piece, so that a block that grows is not packed anew."""

    parts: tuple[bytes, ...]


_Columns = tuple[list[str], list[int], list[str], list[float]]
_columns = msgspec.msgpack.Decoder(_Columns)
_stored = msgspec.msgpack.Decoder(_StoredBlock)
_heads = msgspec.msgpack.Decoder(_HeadOfBlock)


def pack(objects: Sequence[ObjectInfo]) -> bytes:
    """Return objects as one part of a block."""
    columns = (
        [item.key for item in objects],
        [item.size for item in objects],
        [item.etag for item in objects],
        [item.last_modified for item in objects],
    )
    return zlib.compress(msgspec.msgpack.encode(columns), _LEVEL)


class Block:
    """The objects of a stored block, found by their keys.

    Args:
        value: as the engine keeps it.
    """

    def __init__(self, value: bytes) -> None:
        stored = _stored.decode(value)
        self.head = stored.head
        self._keys, self._sizes, self._etags, self._times = list[str](), list[int](), list[str](), list[float]()
        for part in stored.parts:
            keys, sizes, etags, times = _columns.decode(zlib.decompress(part))
            self._keys += keys
            self._sizes += sizes
            self._etags += etags
            self._times += times

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: str) -> ObjectInfo | None:
        """Return one object."""
        number = bisect_left(self._keys, key)
        return self._at(number) if number < len(self) and self._keys[number] == key else None

    def below(self, prefix: str, *, after: str, limit: int) -> list[ObjectInfo]:
        """Return the first objects whose key starts with a prefix and is greater than ``after``."""
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        end = bisect_left(self._keys, True, lo=start, key=lambda key: not key.startswith(prefix))  # noqa: FBT003
        return [self._at(number) for number in range(start, min(end, start + limit))]

    def up_to(self, key: str) -> list[ObjectInfo]:
        """Return the objects whose key is not greater than ``key``."""
        return [self._at(number) for number in range(bisect_right(self._keys, key))]

    def _at(self, number: int) -> ObjectInfo:
        return ObjectInfo(
            key=self._keys[number],
            size=self._sizes[number],
            etag=self._etags[number],
            last_modified=self._times[number],
        )


def stored_block(head: BlockHead, parts: tuple[bytes, ...]) -> bytes:
    """Return a block as the engine keeps it."""
    return msgspec.msgpack.encode(_StoredBlock(head, parts))


def head_of(value: bytes) -> BlockHead:
    """Return what a stored block says of itself, without unpacking its objects."""
    return _heads.decode(value).head


def block_key(inventory_id: str, number: int) -> str:
    """Return under which key the engine keeps a block."""
    return f"{inventory_id}.{number}"
