"""What waits in a file until it is written has nothing left in memory: the ends of many parts would add up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from preheat.worker.writes import Staging
from preheat.worker.writes._staging import BUFFER_BYTES
from tests.unit.writing_workers import MIB, pieces


@pytest.mark.parametrize(("size", "held"), [(1000, 1000), (BUFFER_BYTES, BUFFER_BYTES), (BUFFER_BYTES + MIB, 0)])
async def test_a_body_is_in_memory_or_in_a_file(tmp_path: Path, size: int, held: int) -> None:
    staging, content = Staging(tmp_path / "staging"), bytes(range(256)) * (size // 256) + bytes(size % 256)
    with await staging.receive(pieces(content)) as body:
        assert (staging.in_memory, body.in_memory) == (held, held > 0)
        assert b"".join(body.pieces()) == content
        assert (body.size, body.etag) == (size, hashlib.md5(content).hexdigest())
    assert (staging.in_memory, staging.staged) == (0, 0)
