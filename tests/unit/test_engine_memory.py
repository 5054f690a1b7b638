"""The engine's twin in memory keeps the engine's contract."""

from __future__ import annotations

import pytest
from tests.unit.engine_conformance import EngineConformance

from preheat.engine import MemoryEngine


class TestMemoryEngine(EngineConformance):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine()
