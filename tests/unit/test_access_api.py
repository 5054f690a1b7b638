"""What a coordinator answers to whom, when it asks for tokens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from preheat.access import EVERYTHING, Grant, Role, Token, parse_prefix
from preheat.api import create_app
from preheat.api._access import needed_role
from preheat.engine import Bucket
from preheat.settings import CoordinatorSettings, TlsSettings
from preheat.tokens import TokenStore
from tests.unit.memory_cluster import Cluster

MINE, OTHER = "s3://b/mine/", "s3://b/other/"


@dataclass
class Lab:
    """A coordinator that asks for tokens, and clients of it."""

    cluster: Cluster
    tokens: TokenStore
    app: FastAPI

    def client(self, token: Token | None = None, **headers: str) -> httpx.AsyncClient:
        if token:
            headers["Authorization"] = f"Bearer {token.text}"
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def token(self, role: Role, *prefixes: str) -> Token:
        grant = Grant(role=role, prefixes=tuple(map(parse_prefix, prefixes)))
        return (await self.tokens.create(grant=grant))[1]

    async def job(self, path: str) -> str:
        """Submit a job as an admin, and return its id."""
        async with self.client(await self.token(Role.ADMIN)) as admin:
            response = await admin.post("/v1/jobs", json={"path": path})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    cluster = Cluster()
    await cluster.start_all()
    for path in (MINE, OTHER):
        cluster.origin.write(path + "x", b"x")
    tokens = TokenStore(cluster.engine)
    following = asyncio.create_task(tokens.follow())
    await tokens.loaded.wait()
    yield Lab(cluster, tokens, create_app(cluster.coordinator, CoordinatorSettings(), tokens=tokens))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await cluster.stop_all()


def requests_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return the method and path of every route, with something in the place of its parameters."""
    found = []
    for route in app.routes:
        assert isinstance(route, Route | APIRoute)  # a mounted app or a web socket would need a thought of its own
        path = re.sub(r"\{\w+\}", "x", route.path)
        found += [(method, path) for method in route.methods or ()]
    assert len(found) > 25
    return found


async def test_every_route_but_health_asks_for_a_token(lab: Lab):
    """Also those that are added later, and those that FastAPI adds."""
    open_paths = {"/v1/healthz", "/v1/readyz", "/login"}
    async with lab.client() as nobody:
        for method, path in [*requests_of(lab.app), ("GET", "/nothing"), ("POST", "/"), ("GET", "//v1/jobs")]:
            response = await nobody.request(method, path)
            if path in open_paths:
                assert response.status_code in {200, 405, 401}, (method, path)
                continue
            assert response.status_code == 401, (method, path, response.text)
            assert response.headers["WWW-Authenticate"] == "Bearer"
            if method != "HEAD":
                problem = response.json()
                assert (problem["code"], "PREHEAT_TOKEN" in problem["remedy"]) == ("unauthenticated", True)


async def test_a_wrong_token_is_no_token(lab: Lab):
    right = await lab.token(Role.ADMIN)
    for wrong in (Token.new(), Token(id=right.id, secret=Token.new().secret)):
        async with lab.client(wrong) as stranger:
            assert (await stranger.get("/v1/jobs")).status_code == 401
    async with lab.client(Authorization=f"Basic {right.text}") as client:
        assert (await client.get("/v1/jobs")).status_code == 401
    async with lab.client() as client:
        assert (await client.get("/v1/jobs", params={"token": right.text})).status_code == 401
    async with lab.client(right) as client:
        assert (await client.get("/v1/jobs")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/v1/jobs", Role.READ),
        ("HEAD", "/", Role.READ),
        ("GET", "/metrics", Role.READ),
        ("GET", "/v1/workers", Role.READ),
        ("GET", "/api/v1/master/progress_job/load", Role.READ),
        ("POST", "/api/v1/master/list_job", Role.READ),
        ("POST", "/v1/jobs", Role.SUBMIT),
        ("PATCH", "/v1/jobs/j", Role.SUBMIT),
        ("POST", "/v1/jobs/j/claim", Role.SUBMIT),
        ("DELETE", "/api/v1/load", Role.SUBMIT),
        ("POST", "/v1/workers/w/drain", Role.ADMIN),
        ("DELETE", "/v1/workers/w", Role.ADMIN),
        ("GET", "/v1/tokens", Role.ADMIN),
        ("DELETE", "/v1/tokens/t", Role.ADMIN),
        ("POST", "/v1/tokens/", Role.ADMIN),
        ("POST", "/v1/tokensX", Role.SUBMIT),
        ("BREW", "/", Role.SUBMIT),
    ],
)
def test_the_role_that_a_route_takes(method: str, path: str, role: Role):
    assert needed_role(method, path) is role


async def test_roles(lab: Lab):
    async with lab.client(await lab.token(Role.READ)) as reader:
        for method, path in (("POST", "/v1/jobs"), ("POST", "/v1/jobs/j/stop"), ("GET", "/v1/tokens")):
            response = await reader.request(method, path, json={"path": MINE})
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    async with lab.client(await lab.token(Role.SUBMIT)) as submitter:
        assert (await submitter.post("/v1/jobs", json={"path": MINE})).status_code == 201
        assert (await submitter.post("/v1/tokens", json={"role": "admin"})).status_code == 403


class TestPrefixes:
    @pytest.mark.parametrize(
        "body",
        [
            {"path": OTHER},
            {"path": "s3://b/"},
            {"path": "s3://b/mi"},
            {"paths": [MINE, OTHER]},
            {"path": "s3://b/mine/../other/"},
            {"index": OTHER + "x"},
            {"type": "copy", "path": MINE + "x", "destination": OTHER + "y"},
            {"type": "move", "path": OTHER + "x", "destination": MINE + "y"},
            {"type": "free", "path": OTHER},
        ],
    )
    async def test_they_bind_submits(self, lab: Lab, body: dict[str, object]):
        async with lab.client(await lab.token(Role.SUBMIT, MINE)) as client:
            response = await client.post("/v1/jobs", json=body)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), response.text
            assert MINE in response.json()["detail"]
        assert lab.cluster.coordinator.service.list() == []

    async def test_they_bind_the_dialects(self, lab: Lab):
        async with lab.client(await lab.token(Role.SUBMIT, MINE)) as client:
            b, c = "/api/v1/master", "/api/v1/load"
            for method, url, body in (
                ("POST", f"{b}/submit_job/load", {"path": OTHER}),
                ("GET", f"{b}/progress_job/load", {"path": OTHER}),
                ("POST", f"{b}/stop_job/load", {"path": OTHER}),
                ("POST", c, {"paths": [MINE, OTHER]}),
                ("DELETE", c, {"paths": [OTHER]}),
            ):
                assert (await client.request(method, url, json=body)).status_code == 403, (method, url)
            assert (await client.post(f"{b}/submit_job/load", json={"path": MINE})).status_code == 200

    async def test_a_job_outside_can_be_neither_seen_nor_touched(self, lab: Lab):
        mine, other = await lab.job(MINE), await lab.job(OTHER)
        claim = {"waiter": "w", "fence": "fence-0001"}
        async with lab.client(await lab.token(Role.SUBMIT, MINE)) as client:
            assert (await client.get(f"/v1/jobs/{mine}")).status_code == 200
            for method, path, body in (
                ("GET", "", None),
                ("GET", "?wait=1&after=0", None),
                ("GET", "/failures", None),
                ("POST", "/retry", None),
                ("POST", "/stop", None),
                ("POST", "/claim", claim),
                ("POST", "/cancel", claim),
                ("PATCH", "", {"bandwidth": 1000}),
            ):
                response = await client.request(method, f"/v1/jobs/{other}{path}", json=body)
                assert (response.status_code, response.json()["code"]) == (403, "forbidden"), (method, path)
            assert (await client.get(f"/jobs/{other}")).status_code == 403
            assert (await client.get("/api/v1/load", params={"id": other})).status_code == 403

    async def test_they_bind_what_an_index_names(self, lab: Lab):
        """Its lines are read later, by a coordinator that nobody asks: the job carries the prefixes with it."""
        lines = [MINE + "x", OTHER + "x", OTHER, "mine/../other/x", MINE]
        lab.cluster.origin.write(MINE + "index", "\n".join(lines).encode())
        async with lab.client(await lab.token(Role.SUBMIT, MINE)) as client:
            job = (await client.post("/v1/jobs", json={"index": MINE + "index"})).json()
            await lab.cluster.ended(job["id"])
            failures = [
                json.loads(line) for line in (await client.get(f"/v1/jobs/{job['id']}/failures")).text.splitlines()
            ]
            refused = {OTHER + "x", OTHER, "s3://b/mine/../other/x"}
            assert {(each["path"], each["code"]) for each in failures} == {(path, "forbidden") for path in refused}
            assert lab.cluster.cached(OTHER + "x") == []
            assert lab.cluster.cached(MINE + "x") == [b"x"]
            again = (await client.post(f"/v1/jobs/{job['id']}/retry")).json()
            await lab.cluster.ended(again["id"])
        assert lab.cluster.cached(OTHER + "x") == []
        async with lab.client(await lab.token(Role.SUBMIT)) as client:
            free = (await client.post("/v1/jobs", json={"index": MINE + "index"})).json()
            assert not free["attached"]
            await lab.cluster.ended(free["id"])
        assert lab.cluster.cached(OTHER + "x") == [b"x"]

    async def test_they_bind_estimates(self, lab: Lab):
        async with lab.client(await lab.token(Role.SUBMIT, MINE)) as client:
            assert (await client.post("/v1/estimates", json={"path": MINE})).status_code == 200
            assert (await client.post("/v1/estimates", json={"path": OTHER})).status_code == 403

    async def test_events_leave_out_what_is_outside(self, lab: Lab):
        stream = Stream(lab.app, "/v1/events", await lab.token(Role.READ, MINE))
        async with stream, asyncio.timeout(10):
            assert (await stream.sent.get())["status"] == 200
            other, mine = await lab.job(OTHER), await lab.job(MINE)
            told = b""
            while mine.encode() not in told:
                told += (await stream.sent.get())["body"]
            assert other.encode() not in told

    async def test_lists_leave_out_what_is_outside(self, lab: Lab):
        mine, other = await lab.job(MINE), await lab.job(OTHER)
        async with lab.client(await lab.token(Role.READ, MINE)) as client:
            assert [job["id"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == [mine]
            for path in ("/", "/api/v1/master/list_job", "/api/v1/load"):
                page = (await client.get(path)).text
                assert mine[:8] in page
                assert other[:8] not in page
        async with lab.client(await lab.token(Role.READ)) as client:
            assert len((await client.get("/v1/jobs")).json()["jobs"]) == 2


class TestTokens:
    async def test_from_making_to_revocation(self, lab: Lab):
        async with lab.client(await lab.token(Role.ADMIN)) as admin:
            made = await admin.post(
                "/v1/tokens", json={"role": "submit", "paths": ["s3://b/mine"], "name": "etl", "expiresIn": "30d"}
            )
            assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
            shown = made.json()
            token = Token.parse(shown.pop("token"))
            assert shown.pop("s3") is None
            assert (shown["id"], shown["role"], shown["paths"], shown["name"]) == (token.id, "submit", [MINE], "etl")
            assert shown["expiresAt"] > shown["createdAt"]
            listing = await admin.get("/v1/tokens")
            assert shown in listing.json()["tokens"]
            assert token.secret not in listing.text
            stored = await lab.cluster.engine.get(Bucket.TOKENS, token.id)
            assert token.secret.encode() not in stored.value
            async with lab.client(token) as client:
                assert (await client.get("/v1/jobs")).status_code == 200
                assert (await admin.delete(f"/v1/tokens/{token.id}")).status_code == 204
                assert (await client.get("/v1/jobs")).status_code == 401
            assert (await admin.delete(f"/v1/tokens/{token.id}")).status_code == 404

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({}, "role"),
            ({"role": "king"}, "role='king'"),
            ({"role": "read", "paths": ["b/p"]}, "b/p"),
            ({"role": "read", "paths": ["s3://b/a/../b"]}, "relative"),
            ({"role": "admin", "paths": [MINE]}, "admin"),
            ({"role": "read", "expiresIn": "soon"}, "soon"),
            ({"role": "read", "expiresIn": -1}, "expiresIn=-1"),
            ({"role": "read", "colour": "red"}, "colour"),
        ],
    )
    async def test_a_wrong_request_makes_none(self, lab: Lab, body: dict[str, object], named: str):
        async with lab.client(await lab.token(Role.ADMIN)) as admin:
            response = await admin.post("/v1/tokens", json=body)
            assert (response.status_code, response.json()["code"] in {"invalid_request", "invalid_path"}) == (400, True)
            assert named in response.json()["detail"]
            assert len((await admin.get("/v1/tokens")).json()["tokens"]) == 1

    async def test_the_operators_token_is_an_admins_and_is_adopted_once(self, lab: Lab):
        token = Token.new()
        await lab.tokens.adopt_admin(token)
        (before,) = lab.tokens.list()
        await lab.tokens.adopt_admin(token)
        assert lab.tokens.list() == [before]
        assert before.grant == EVERYTHING
        async with lab.client(token) as admin:
            assert (await admin.get("/v1/tokens")).status_code == 200

    async def test_the_processes_token_is_adopted_with_the_role_submit_unless_it_is_known(self, lab: Lab):
        token, reader = Token.new(), await lab.token(Role.READ)
        for own in (token, reader):
            await lab.tokens.adopt_own(own)
        roles = {record.id: record.grant.role for record in lab.tokens.list()}
        assert roles == {token.id: Role.SUBMIT, reader.id: Role.READ}
        async with lab.client(token) as cluster:
            assert (await cluster.get("/v1/tokens")).status_code == 403

    async def test_without_auth_there_are_none(self, lab: Lab):
        app = create_app(lab.cluster.coordinator, CoordinatorSettings())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/v1/jobs")).status_code == 200
            assert (await client.get("/v1/tokens")).status_code == 404


class TestBrowsers:
    HTML = "text/html,application/xhtml+xml"

    async def test_a_page_leads_to_the_form_and_back(self, lab: Lab):
        token = await lab.token(Role.READ)
        async with lab.client(Accept=self.HTML) as browser:
            sent_away = await browser.get("/jobs/some%20id")
            assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/login?next=/jobs/some%20id")
            form = await browser.get(sent_away.headers["location"])
            assert (form.status_code, 'type="password"' in form.text) == (200, True)
            back = await self.log_in(browser, token.text, "/jobs/some%20id")
            assert (back.status_code, back.headers["location"]) == (303, "/jobs/some%20id")
            cookie = back.headers["set-cookie"]
            assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
            assert "Secure" not in cookie
            assert (await browser.get("/")).status_code == 200
            assert (await browser.get("/docs")).status_code == 200
            assert token.secret not in (await browser.get("/")).text

    async def test_the_cookie_changes_nothing(self, lab: Lab):
        async with lab.client(Accept=self.HTML) as browser:
            await self.log_in(browser, (await lab.token(Role.ADMIN)).text)
            assert (await browser.get("/v1/tokens")).status_code == 200
            assert (await browser.post("/v1/tokens", json={"role": "admin"})).status_code == 401
            assert (await browser.post("/v1/jobs", json={"path": MINE})).status_code == 401

    async def test_a_wrong_token_is_told_and_sets_nothing(self, lab: Lab):
        async with lab.client(Accept=self.HTML) as browser:
            for wrong in ("", "<script>", Token.new().text):
                answer = await self.log_in(browser, wrong)
                assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
                assert "<script>" not in answer.text
            assert (await self.log_in(browser, "x" * 5000)).status_code == 400

    @pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "/\\evil.example/", "evil"])
    async def test_the_form_leads_to_no_other_site(self, lab: Lab, elsewhere: str):
        async with lab.client() as browser:
            answer = await self.log_in(browser, (await lab.token(Role.READ)).text, elsewhere)
            assert answer.headers["location"] == "/"

    async def test_over_tls_the_cookie_is_sent_by_nothing_else(self, lab: Lab, tmp_path):
        tls = TlsSettings(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
        lab.app = create_app(lab.cluster.coordinator, CoordinatorSettings(tls=tls), tokens=lab.tokens)
        async with lab.client() as browser:
            answer = await self.log_in(browser, (await lab.token(Role.READ)).text)
            assert "; Secure" in answer.headers["set-cookie"]

    async def log_in(self, browser: httpx.AsyncClient, token: str, then: str = "/") -> httpx.Response:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return await browser.post(
            f"/login?{urlencode({'next': then})}", content=urlencode({"token": token}), headers=form
        )


class Stream:
    """An answer without an end, asked for as a server would: httpx reads to the end before it returns."""

    def __init__(self, app: FastAPI, path: str, token: Token) -> None:
        self.sent: asyncio.Queue[dict] = asyncio.Queue()
        self._app = app
        self._asked = False
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"authorization", f"Bearer {token.text}".encode())],
            "client": ("test", 1), "server": ("test", 80),
        }  # fmt: skip

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._app(self._scope, self._receive, self.sent.put))

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _receive(self) -> dict:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}


async def test_an_answer_that_goes_on_ends_with_its_token(lab: Lab):
    token = await lab.token(Role.READ)
    stream = Stream(lab.app, "/v1/events", token)
    async with stream, asyncio.timeout(10):
        assert (await stream.sent.get())["status"] == 200
        assert (await stream.sent.get())["more_body"] is True
        await lab.tokens.revoke(token.id)
        await lab.job(MINE)
        while (message := await stream.sent.get()).get("more_body"):
            assert MINE.encode() not in message["body"]
        assert not message.get("body")
