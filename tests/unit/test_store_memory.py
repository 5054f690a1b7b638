from pathlib import Path

from preheat.settings import StoreSettings
from preheat.store import MemoryStore, PageStore
from preheat.store._memory import _Held
from tests.unit.store_conformance import CapacityConformance, StoreConformance


class TestMemoryStore(StoreConformance, CapacityConformance):
    def open_store(self, directory: Path, capacity: int, settings: StoreSettings) -> PageStore:
        return MemoryStore(capacity=capacity, settings=settings)

    def flip_bit(self, store: PageStore, path: str, position: int) -> None:
        assert isinstance(store, MemoryStore)
        held = store._held[path]
        data = bytearray(held.data)
        data[position] ^= 1
        store._held[path] = _Held(item=held.item, data=bytes(data), use=held.use)
