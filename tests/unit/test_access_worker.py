"""What the data port lets through, before a request reaches its endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from preheat.access import Grant, Role, Token, parse_prefix
from preheat.engine import MemoryEngine
from preheat.errors import EngineUnavailable, Forbidden, InvalidPath, PreheatError, Unauthenticated
from preheat.paths import UfsPath
from preheat.tokens import TokenStore
from preheat.worker.port._access import Authorizer
from preheat.worker.port._http import Request
from preheat.worker.port._writes import WriteEndpoints
from tests.unit.writing_workers import working

DATA = "/v1/data/s3/b/p/x"


def request(target: str, token: Token | str | None = None, method: str = "GET") -> Request:
    text = token.text if isinstance(token, Token) else token
    headers = {"authorization": f"Bearer {text}"} if text else {}
    return Request(method=method, target=target, headers=headers, keep_alive=True)


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
async def tokens(engine: MemoryEngine) -> AsyncIterator[TokenStore]:
    """Another process's store: what it changes reaches the authorizer by the engine alone."""
    store = TokenStore(engine)
    async with following(store.follow()):
        await store.loaded.wait()
        yield store


@pytest.fixture
async def authorizer(engine: MemoryEngine, tokens: TokenStore) -> AsyncIterator[Authorizer]:
    authorizer = Authorizer()
    async with following(authorizer.follow(engine)):
        yield authorizer


@contextlib.asynccontextmanager
async def following(work) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def made(tokens: TokenStore, role: Role, *prefixes: str, lifetime: float | None = None) -> Token:
    grant = Grant(role=role, prefixes=tuple(map(parse_prefix, prefixes)))
    return (await tokens.create(grant=grant, lifetime=lifetime))[1]


async def outcome(authorizer: Authorizer, request: Request) -> str:
    """Return the code of the refusal, or ok; the watch needs a few turns of the loop to bring a change."""
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        authorizer.check(request)
    except PreheatError as error:
        return error.code
    return "ok"


async def test_uploads_of_others_are_not_shown(authorizer: Authorizer, tokens: TokenStore, tmp_path: Path):
    token = await made(tokens, Role.READ, "s3://b/p/")
    async with working(tmp_path, 1) as group:
        writes = group.workers[0].writes
        endpoints = WriteEndpoints(writes, authorizer=authorizer, may_copy=print)
        await writes.create_upload(UfsPath.parse("s3://b/protected"))
        own = await writes.create_upload(UfsPath.parse("s3://b/p/x"))
        wanted = request("/v1/uploads?path=s3://b/p", token)
        assert await outcome(authorizer, wanted) == "ok"
        shown = msgspec.json.decode((await endpoints.answer(wanted)).body)["uploads"]
        assert [upload["upload"] for upload in shown] == [own]


async def test_without_a_token_only_health_is_told(authorizer: Authorizer):
    assert await outcome(authorizer, request("/v1/healthz")) == "ok"
    for target in (DATA, "/v1/stats", "/v1/list?path=s3://b/", "/v1/healthz/../stats", "/v1/nothing", "/"):
        assert await outcome(authorizer, request(target)) == "unauthenticated"
        assert await outcome(authorizer, request(target, Token.new())) == "unauthenticated"


async def test_a_token_is_valid_from_its_making_to_its_revocation(authorizer: Authorizer, tokens: TokenStore):
    token = await made(tokens, Role.READ)
    for _ in range(2):  # found out, then remembered
        assert await outcome(authorizer, request(DATA, token)) == "ok"
    wrong = Token(id=token.id, secret=Token.new().secret)
    assert await outcome(authorizer, request(DATA, wrong)) == "unauthenticated"
    await tokens.revoke(token.id)
    assert await outcome(authorizer, request(DATA, token)) == "unauthenticated"


async def test_a_remembered_token_expires(authorizer: Authorizer, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch):
    token = await made(tokens, Role.READ, lifetime=60)
    assert await outcome(authorizer, request(DATA, token)) == "ok"
    now = tokens.list()[0].created_at
    monkeypatch.setattr("time.time", lambda: now + 60)
    assert await outcome(authorizer, request(DATA, token)) == "unauthenticated"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (DATA, "ok"),
        ("/v1/data/s3/b/p%2Fx", "ok"),
        ("/v1/data/s3/b/private", "forbidden"),
        ("/v1/data/s3/b/p/../q", "forbidden"),
        ("/v1/data/s3/b/p/%2E%2E/q", "forbidden"),
        ("/v1/data/file//etc/passwd", "forbidden"),
        ("/v1/data/", "invalid_path"),
        ("/v1/list?path=s3://b/p/", "ok"),
        ("/v1/list?path=s3://b/", "forbidden"),
        ("/v1/list?path=s3%3A%2F%2Fb%2Fq", "forbidden"),
        ("/v1/list?path=s3://b/p/&path=s3://b/q/", "forbidden"),
        ("/v1/list?path=s3://b/q/&path=s3://b/p/", "forbidden"),
        ("/v1/stat?path=s3://b/p/x", "ok"),
        ("/v1/stat", "forbidden"),
        ("/v1/stats", "ok"),
        ("/v1/load?path=s3://b/p/&opType=progress", "ok"),
        ("/v1/load?path=s3://b/q/&opType=progress", "forbidden"),
        ("/v1/load?path=s3://b/p/&opType=submit", "forbidden"),
        ("/v1/load?path=s3://b/p/&opType=progress&optype=stop", "forbidden"),
        ("/v1/load?path=s3://b/p/", "forbidden"),
        ("/v1/copy?path=s3://b/p/x&target=s3://b/q/x", "forbidden"),
        ("/v1/copy?path=s3://b/p/x&target=s3://b/p/y", "ok"),
        ("/v1/file/0123", "forbidden"),
    ],
)
async def test_a_reader_is_bound_to_its_prefix(authorizer: Authorizer, tokens: TokenStore, target: str, code: str):
    token = await made(tokens, Role.READ, "s3://b/p/")
    assert await outcome(authorizer, request(target, token)) == code


async def test_a_reader_reads_and_a_submitter_submits(authorizer: Authorizer, tokens: TokenStore):
    reader, submitter = await made(tokens, Role.READ), await made(tokens, Role.SUBMIT)
    load = "/v1/load?path=s3://b/q/&opType=SUBMIT"
    assert await outcome(authorizer, request(load, reader)) == "forbidden"
    assert await outcome(authorizer, request(load, submitter)) == "ok"
    assert await outcome(authorizer, request(DATA, reader, method="DELETE")) == "forbidden"
    assert await outcome(authorizer, request("/v1/file/0123/page/0", reader)) == "ok"


async def test_what_is_named_by_an_id_is_checked_once_the_path_is_known(authorizer: Authorizer, tokens: TokenStore):
    reader, submitter = await made(tokens, Role.READ, "s3://b/p/"), await made(tokens, Role.SUBMIT, "s3://b/p/")
    read, removal = request("/v1/file/0123/page/0", reader), request("/v1/rm/0123", reader, method="POST")
    assert await outcome(authorizer, read) == "ok"
    authorizer.check_paths(read, [UfsPath.parse("s3://b/p/x")])
    with pytest.raises(Forbidden, match="s3://b/q/x"):
        authorizer.check_paths(read, [UfsPath.parse("s3://b/p/x"), UfsPath.parse("s3://b/q/x")])
    assert await outcome(authorizer, removal) == "forbidden"
    with pytest.raises(Forbidden, match="submit"):
        authorizer.check_paths(removal, [UfsPath.parse("s3://b/p/x")])
    assert await outcome(authorizer, request("/v1/rm/0123", submitter, method="POST")) == "ok"


async def test_before_the_tokens_are_known_nobody_is_wrong(tokens: TokenStore):
    with pytest.raises(EngineUnavailable):
        Authorizer().check(request(DATA, Token.new()))


def test_the_errors_are_those_that_python_knows():
    assert issubclass(Unauthenticated, PermissionError)
    assert issubclass(Forbidden, PermissionError)
    assert issubclass(InvalidPath, ValueError)
