"""S3 credentials of tokens: made once, shown once, and good for as long and for as much as their token."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from preheat.access import EVERYTHING, Grant, Role, TokenRecord, access_key_id, parse_prefix, token_id_of
from preheat.api import create_app
from preheat.cli._tokens import MadeToken
from preheat.engine import Bucket
from preheat.errors import EngineUnavailable, Forbidden
from preheat.paths import UfsPath
from preheat.settings import CoordinatorSettings
from preheat.tokens import TokenStore
from preheat.worker.s3._credentials import S3Credentials, authorize_listing
from preheat.worker.s3._errors import S3Error
from tests.unit.memory_cluster import Cluster

HOST = "127.0.0.1:29998"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def tokens(cluster: Cluster) -> AsyncIterator[TokenStore]:
    store = TokenStore(cluster.engine)
    following = asyncio.create_task(store.follow())
    await store.loaded.wait()
    yield store
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def signed(access_key: str, secret_key: str, target: str = "/b/k") -> dict[str, str]:
    """Return the headers that a client sends."""
    request = AWSRequest(method="GET", url=f"http://{HOST}{target}")
    S3SigV4Auth(Credentials(access_key, secret_key), "s3", "us-east-1").add_auth(request)
    return {"host": HOST, **{name.lower(): str(value) for name, value in request.headers.items()}}


def ask(tokens: TokenStore, record: TokenRecord, **changes: str) -> Grant:
    headers = signed(changes.get("key", record.access_key_id), changes.get("secret", record.secret_key))
    return S3Credentials(tokens).authenticate("GET", "/b/k", headers, now=time.time()).grant


def code_of(tokens: TokenStore, record: TokenRecord, **changes: str) -> str:
    with pytest.raises(S3Error) as refused:
        ask(tokens, record, **changes)
    return refused.value.s3_code


async def test_they_allow_what_the_token_does_for_as_long(tokens: TokenStore):
    grant = Grant(role=Role.READ, prefixes=("s3://b/data/",))
    record, _ = await tokens.create(grant=grant, s3=True)
    assert ask(tokens, record) == grant
    assert code_of(tokens, record, secret="wrong") == "SignatureDoesNotMatch"
    assert code_of(tokens, record, key=record.access_key_id.lower()) == "InvalidAccessKeyId"
    assert code_of(tokens, record, key="PHS3") == "InvalidAccessKeyId"
    await tokens.revoke(record.id)
    assert code_of(tokens, record) == "InvalidAccessKeyId"


async def test_a_token_that_expired(tokens: TokenStore):
    record, _ = await tokens.create(grant=EVERYTHING, s3=True, lifetime=-1)
    assert code_of(tokens, record) == "InvalidAccessKeyId"


async def test_a_token_without_them(tokens: TokenStore):
    record, _ = await tokens.create(grant=EVERYTHING)
    assert (record.access_key_id, record.secret_key) == ("", "")
    assert code_of(tokens, record, key=access_key_id(record.id)) == "InvalidAccessKeyId"
    assert code_of(tokens, record, key="") == "InvalidAccessKeyId"


async def test_before_the_tokens_are_known(cluster: Cluster, tokens: TokenStore):
    record, _ = await tokens.create(grant=EVERYTHING, s3=True)
    with pytest.raises(EngineUnavailable):
        ask(TokenStore(cluster.engine), record)


async def test_only_the_first_answer_has_the_secret(
    cluster: Cluster, tokens: TokenStore, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    _, admin = await tokens.create(grant=EVERYTHING)
    transport = httpx.ASGITransport(create_app(cluster.coordinator, CoordinatorSettings(), tokens=tokens))
    headers = {"Authorization": f"Bearer {admin.text}"}
    with caplog.at_level(logging.DEBUG):
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            answer = await client.post("/v1/tokens", json={"role": "read", "s3": True})
            listed = (await client.get("/v1/tokens")).text
            without = (await client.post("/v1/tokens", json={"role": "read"})).json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    made = msgspec.json.decode(answer.content, type=MadeToken)
    assert made.s3
    assert made.s3.variables == {
        "AWS_ACCESS_KEY_ID": made.access_key_id,
        "AWS_SECRET_ACCESS_KEY": made.s3.secret_access_key,
    }
    assert re.fullmatch(r"PHS3[0-9A-F]{12}", made.s3.access_key_id)
    assert token_id_of(made.s3.access_key_id) == made.id
    assert len(made.s3.secret_access_key) == 40
    assert (without["s3"], without["accessKeyId"]) == (None, None)
    stored = await cluster.engine.get(Bucket.TOKENS, made.id)
    assert stored
    record = msgspec.json.decode(stored.value or b"", type=TokenRecord)
    assert record.secret_key == made.s3.secret_access_key
    printed = capfd.readouterr()
    for shown in (listed, repr(record), repr(made), repr(made.s3), caplog.text, printed.out, printed.err):
        assert made.s3.secret_access_key not in shown
    assert made.s3.access_key_id in listed


def test_records_from_before_have_none():
    record = TokenRecord(id="a", grant=EVERYTHING, created_at=0, sha256="")
    fields = msgspec.to_builtins(record)
    del fields["secret_key"]
    assert msgspec.convert(fields, TokenRecord) == record


class TestListing:
    GRANT = Grant(role=Role.READ, prefixes=(parse_prefix("s3://b/data"),))

    @pytest.mark.parametrize("prefix", ["data/", "data/x", "data//", "data/x/..y"])
    def test_within(self, prefix: str):
        authorize_listing(self.GRANT, UfsPath(scheme="s3", bucket="b", key=prefix))

    @pytest.mark.parametrize("prefix", ["", "d", "data", "database", "Data/", "/data/", "data/../", "data/x/../y"])
    def test_what_could_show_more(self, prefix: str):
        with pytest.raises(Forbidden, match="s3://b/data/"):
            authorize_listing(self.GRANT, UfsPath(scheme="s3", bucket="b", key=prefix))
        authorize_listing(EVERYTHING, UfsPath(scheme="s3", bucket="b", key=prefix))
