"""The engine's twin in memory keeps the engine's contract."""

from __future__ import annotations

import pytest

from preheat.engine import MemoryEngine
from tests.unit.engine_conformance import EngineConformance


class TestMemoryEngine(EngineConformance):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine()
