"""`preheat token` against a real coordinator that serves over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from preheat.access import EVERYTHING, Token
from preheat.api import create_app
from preheat.cli import main
from preheat.settings import CoordinatorSettings
from preheat.tokens import TokenStore
from testbed.ports import free_port
from tests.unit.memory_cluster import Cluster


class Served:
    """A coordinator on a port."""

    def __init__(self, tokens: TokenStore | None) -> None:
        app = create_app(Cluster().coordinator, CoordinatorSettings(), tokens=tokens)
        self.port = free_port()
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)

    async def __aenter__(self) -> str:
        self._task = asyncio.create_task(self._server.serve())
        async with asyncio.timeout(10):
            while not self._server.started:
                await asyncio.sleep(0.01)
        return f"http://127.0.0.1:{self.port}"

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task


@pytest.fixture
async def tokens() -> AsyncIterator[TokenStore]:
    store = TokenStore(Cluster().engine)
    following = asyncio.create_task(store.follow())
    await store.loaded.wait()
    yield store
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def preheat(*arguments: str) -> int:
    """Run a command in a thread, and return its exit code."""

    def run() -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0)

    return await asyncio.to_thread(run)


async def test_from_making_to_revocation(tokens: TokenStore, monkeypatch: pytest.MonkeyPatch, capsys):
    _, admin = await tokens.create(grant=EVERYTHING)
    capsys.readouterr()
    async with Served(tokens) as url:
        monkeypatch.setenv("PREHEAT_COORDINATOR_URL", url)
        monkeypatch.setenv("PREHEAT_TOKEN", admin.text)
        paths = ("--path", "s3://b/p", "--path", "s3://b/q/")
        assert await preheat("token", "create", "--role", "submit", *paths, "--expires", "12h", "--json") == 0
        printed = capsys.readouterr().out
        made = json.loads(printed[printed.index("{\n") :])  # behind the log lines of the coordinator
        assert made["paths"] == ["s3://b/p/", "s3://b/q/"]
        token = Token.parse(made["token"])
        assert await preheat("token", "ls") == 0
        listed = capsys.readouterr().out
        assert token.id in listed
        assert token.secret not in listed
        assert await preheat("token", "revoke", token.id) == 0
        assert token.id not in [record.id for record in tokens.list()]
        assert await preheat("token", "revoke", token.id) == 1
        assert "preheat token ls" in capsys.readouterr().err


async def test_an_open_cluster_says_that_it_has_no_tokens(monkeypatch: pytest.MonkeyPatch, capsys):
    async with Served(None) as url:
        monkeypatch.setenv("PREHEAT_COORDINATOR_URL", url)
        assert await preheat("token", "ls") == 1
        assert await preheat("token", "create", "--role", "read") == 1
    assert "--auth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"), [(("--role", "king"), "king"), (("--role", "read", "--expires", "soon"), "soon")]
)
async def test_a_wrong_option_is_named(arguments: tuple[str, ...], named: str, capsys):
    assert await preheat("token", "create", *arguments) == 2
    assert named in capsys.readouterr().err


async def test_generate_prints_a_token(capsys):
    assert await preheat("token", "generate") == 0
    assert Token.parse(capsys.readouterr().out)


async def test_the_token_may_be_in_a_file(tokens: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    _, admin = await tokens.create(grant=EVERYTHING)
    file = tmp_path / "token"
    file.write_text(f"{admin.text}\n")
    monkeypatch.setenv("PREHEAT_TOKEN_FILE", str(file))
    async with Served(tokens) as url:
        monkeypatch.setenv("PREHEAT_COORDINATOR_URL", url)
        assert await preheat("token", "ls") == 0
        monkeypatch.setenv("PREHEAT_TOKEN", "ph_wrong")  # the variable comes first
        assert await preheat("token", "ls") == 1
        monkeypatch.delenv("PREHEAT_TOKEN")
        file.unlink()
        assert await preheat("token", "ls") == 1
    assert str(file) in capsys.readouterr().err
