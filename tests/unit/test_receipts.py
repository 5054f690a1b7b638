"""Receipts: what verified jobs have proven, signed once, and refused when they were edited or are somebody else's."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm

from preheat.access import Role
from preheat.api import create_app
from preheat.api._access import needed_role
from preheat.cli import main
from preheat.coordinator import Coordinator
from preheat.coordinator._receipts import ReceiptSigner
from preheat.engine import Bucket, Entry, MemoryEngine
from preheat.errors import EngineUnavailable, InvalidReceipt
from preheat.jobs import Job, JobOptions, JobSpec, JobState, Progress, Tally
from preheat.receipts import (
    ALGORITHM,
    TOKEN_TYPE,
    Receipt,
    key_id,
    paths_digest,
    public_jwk,
    read_keys,
    receipt_of,
    sign,
    verify,
)
from preheat.settings import CoordinatorSettings
from tests.unit.memory_cluster import Cluster, load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/receipt.md").read_text()
CONTRACT = json.loads((ROOT / "tests/contract/job.json").read_text())
VECTOR: str = CONTRACT["receipt"]
LATER = 2**33
PATH = "s3://b/data/"
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=2000)
ISSUER = "http://127.0.0.1:19999"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def vector_key() -> Ed25519PrivateKey:
    key = OKPAlgorithm.from_jwk(blocks("json")[0])
    assert isinstance(key, Ed25519PrivateKey)
    return key


KEY = vector_key()
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
RECEIPT = verify(VECTOR, KEYS, now=LATER)
CLAIMS: dict[str, Any] = json.loads(msgspec.json.encode(RECEIPT))


def token(claims: object = CLAIMS, key: Any = KEY, **header: Any) -> str:
    fields = {"alg": ALGORITHM, "kid": next(iter(KEYS)), "typ": TOKEN_TYPE} | header
    return jwt.api_jws.encode(json.dumps(claims).encode(), key, fields["alg"], fields)


def ended(**changes: Any) -> Job:
    """Return a job of ten files that has succeeded, all of them read back."""
    everything = Tally(objects=10, bytes=1000)
    work = Progress(listed=everything, done=everything, listing_done=True, version="ab" * 32)
    read = replace(work, epoch=3, began_at=101.9)
    spec = JobSpec(paths=(PATH,), options=JobOptions(verify=True))
    job = Job(id="j", spec=spec, state=JobState.SUCCEEDED, submitted_at=99.0, finished_at=102.5, work=work)
    return replace(job, **({"verification": read} | changes))


class TestTheDocumentedForm:
    def test_the_test_vector_holds(self):
        claims, (vector,) = json.loads(blocks("json")[1]), re.findall(r"^```\n(ey.*)\n```$", PAGE, re.MULTILINE)
        assert vector == VECTOR
        assert claims == CLAIMS
        assert sign(msgspec.convert(claims, Receipt), KEY) == VECTOR
        assert key_id(KEY.public_key()) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # as RFC 8037 has it

    def test_it_is_of_the_contracts_job(self):
        same = ("datasetVersion", "listed", "verified", "failed", "paths", "index", "type")
        assert {name: CLAIMS[name] for name in same} == {name: CONTRACT[name] for name in same}
        assert RECEIPT.sub == CONTRACT["id"]

    def test_every_claim_is_in_the_table(self):
        table = PAGE.partition("| claim | meaning |")[2].partition("\n\n")[0]
        named = {
            name
            for row in table.splitlines()
            for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if "|" in row else "")
        }
        assert named == set(CLAIMS)

    def test_the_pages_checker_runs(self):
        names: dict[str, Any] = {}
        exec(blocks("python")[0], names)
        claims = CLAIMS | {"iat": 1}
        jwks = {"keys": [public_jwk(KEY.public_key())]}
        assert names["check"](token(claims), jwks) == claims
        with pytest.raises(ValueError, match="not all"):
            names["check"](token(claims | {"verified": {"files": 1, "bytes": 1}}), jwks)
        with pytest.raises(jwt.InvalidSignatureError):
            names["check"](token(claims, Ed25519PrivateKey.generate()), jwks)


class TestWhatIsProven:
    def test_counts_are_those_of_the_reading_back(self):
        read = Progress(
            listed=Tally(objects=10, bytes=1000),
            done=Tally(objects=9, bytes=950),
            failed=Tally(objects=1, bytes=50),
            listing_done=True,
            epoch=3,
            began_at=101.9,
        )
        options = JobOptions(verify=True, min_hot_fraction=0.9, replicas=2, file_filter_regex=".*")
        receipt = receipt_of(ended(spec=JobSpec(paths=(PATH,), options=options), verification=read), issuer=ISSUER)
        assert receipt is not None
        assert (receipt.verified.files, receipt.failed.bytes, receipt.listed.files) == (9, 50, 10)
        assert (receipt.hot_fraction, receipt.min_hot_fraction) == (0.9, 0.9)
        assert (receipt.replicas, receipt.epoch, receipt.file_filter_regex) == (2, 3, ".*")
        assert (receipt.verified_from, receipt.iat, receipt.dataset_version) == (101, 102, f"sha256:{'ab' * 32}")

    @pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.SUCCEEDED])
    def test_only_a_success_has_one(self, state: JobState):
        assert receipt_of(ended(), issuer=ISSUER) is not None
        assert receipt_of(ended(state=state), issuer=ISSUER) is None

    def test_what_was_not_all_read_back_proves_nothing(self):
        whole = ended().verification
        assert whole is not None
        for read in (
            None,
            replace(whole, listing_done=False),
            replace(whole, done=Tally(objects=9, bytes=1000)),
            replace(whole, done=Tally(objects=9, bytes=900), skipped=Tally(objects=1, bytes=100)),
        ):
            assert receipt_of(ended(verification=read), issuer=ISSUER) is None

    @given(st.lists(TEXT, max_size=30) | st.just(["\1" * 4096]), TEXT.map(lambda text: text[:1000]))
    @settings(max_examples=30, deadline=None)
    def test_it_stays_small_and_tells_paths_apart(self, paths: list[str], pattern: str):
        options = JobOptions(verify=True, file_filter_regex=pattern)
        receipt = receipt_of(ended(spec=JobSpec(paths=tuple(paths), options=options)), issuer=ISSUER)
        assert receipt is not None
        assert len(sign(receipt, KEY)) < 64 << 10
        assert (receipt.paths is None) is (sum(len(path.encode()) for path in paths) > 4096)
        assert (receipt.paths_digest is None) is (receipt.paths is not None)
        assert verify(sign(receipt, KEY), KEYS, now=LATER) == receipt

    def test_the_digest_of_paths_knows_where_each_ends(self):
        assert len({paths_digest(paths) for paths in (("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ())}) == 5


class TestForgeries:
    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_an_edited_receipt_is_refused_or_says_the_same(self, data: st.DataObject):
        place = data.draw(st.integers(0, len(VECTOR) - 1))
        text = data.draw(st.characters(codec="utf-8") | st.sampled_from(["", "..", "AA"]))
        edited = VECTOR[:place] + text + VECTOR[place + 1 :]
        try:
            receipt = verify(edited, KEYS, now=LATER)
        except InvalidReceipt:
            return
        assert receipt == RECEIPT

    @given(st.text() | st.text("ab._-=").map(lambda text: f"eyJhbGciOiJFZERTQSJ9.{text}"))
    @settings(max_examples=150, deadline=None)
    def test_other_texts_are_refused(self, text: str):
        with pytest.raises(InvalidReceipt):
            verify(text, KEYS, now=LATER)

    @pytest.mark.parametrize(
        ("forge", "why"),
        [
            (
                lambda: token(CLAIMS | {"failed": {"files": 0, "bytes": 1}}, Ed25519PrivateKey.generate()),
                "edited, or forged",
            ),
            (
                lambda: token(key=Ed25519PrivateKey.generate(), kid="another"),
                "key another, which is none of this cluster's",
            ),
            (lambda: token(key="", alg="none"), "a token with"),
            (lambda: token(key=raw_public(), alg="HS256"), "a token with"),
            (lambda: token(typ="JWT"), "a token with"),
            (lambda: token({}), "claims are not those of a receipt"),
            (lambda: token(CLAIMS | {"listed": "all"}), "claims are not those of a receipt"),
            (lambda: token([1]), "claims are not those of a receipt"),
            (lambda: token(CLAIMS | {"iat": LATER + 301}), "here it is"),
            (lambda: "", "three parts"),
            (lambda: "a.b", "three parts"),
        ],
    )
    def test_a_forged_one_is_refused_with_the_reason(self, forge: Callable[[], str], why: str):
        with pytest.raises(InvalidReceipt, match=re.escape(why)):
            verify(forge(), KEYS, now=LATER)

    def test_keys_of_other_kinds_are_left_out_and_what_is_no_key_set_is_refused(self):
        other = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}
        assert list(read_keys(json.dumps({"keys": [other, public_jwk(KEY.public_key())]}).encode())) == list(KEYS)
        for wrong in (b"", b"{}", b'{"keys": 1}', b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}'):
            with pytest.raises(InvalidReceipt):
                read_keys(wrong)


def raw_public() -> bytes:
    return KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Lagging(MemoryEngine):
    """An engine one of whose nodes has not heard of the last writes."""

    def __init__(self, *, behind: int) -> None:
        super().__init__()
        self.behind = behind

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        if bucket is Bucket.SECRETS and self.behind > 0:
            self.behind -= 1
            await asyncio.sleep(0)
            return None
        return await super().get(bucket, key)


class TestTheKey:
    async def test_coordinators_that_start_together_have_one_key(self):
        engine = Lagging(behind=3)
        signers = [ReceiptSigner(engine, issuer=f"http://coordinator-{number}") for number in range(3)]
        first, *others = await asyncio.gather(*(signer.public_keys() for signer in signers))
        assert others == [first, first]
        keys = read_keys(json.dumps({"keys": first}).encode())
        for number, signer in enumerate(signers):
            assert verify(await signer.sign(ended()), keys, now=LATER).iss == f"http://coordinator-{number}"
        assert "d" not in first[0]

    async def test_one_that_is_damaged_is_no_reason_to_make_another(self):
        engine = MemoryEngine()
        for value in (b"not JSON", b'"not a key"', msgspec.json.encode(json.dumps(public_jwk(KEY.public_key())))):
            await engine.put(Bucket.SECRETS, "receipts", value)
            with pytest.raises(EngineUnavailable, match="receipts"):
                await ReceiptSigner(engine, issuer=ISSUER).sign(ended())

    async def test_a_job_that_proves_nothing_needs_none(self):
        engine = MemoryEngine()
        assert await ReceiptSigner(engine, issuer=ISSUER).sign(ended(verification=None)) == ""
        assert await engine.get(Bucket.SECRETS, "receipts") is None


async def submitted(cluster: Cluster, **options: Any) -> Job:
    known = await cluster.coordinator.service.submit(load(**options))
    await cluster.ended(known.job.id)
    return (await cluster.coordinator.service.get(known.job.id)).job


class TestJobs:
    async def test_a_verified_one_has_a_receipt_that_its_cluster_signed(
        self, client: httpx.AsyncClient, cluster: Cluster
    ):
        cluster.fill(20)
        job = await submitted(cluster, verify=True, replicas=2)
        answer = await client.get(f"/v1/jobs/{job.id}/receipt")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jose")
        assert (await client.get(f"/v1/jobs/{job.id}")).json()["receipt"] == answer.text == job.receipt
        assert "receipt" not in (await client.get("/v1/jobs")).json()["jobs"][0]
        jwks = await client.get("/v1/receipts/keys")
        receipt = verify(answer.text, read_keys(jwks.content), now=time.time())
        assert (receipt.sub, receipt.iss, receipt.paths) == (job.id, ISSUER, (PATH,))
        assert (receipt.listed.files, receipt.verified.files, receipt.replicas) == (20, 20, 2)
        assert receipt.epoch == cluster.coordinator.cluster.placement.epoch
        assert receipt.dataset_version == f"sha256:{job.work.version}"
        assert job.started_at is not None
        assert int(job.started_at) <= receipt.verified_from <= receipt.iat <= time.time()
        secret = await cluster.engine.get(Bucket.SECRETS, "receipts")
        assert secret is not None
        assert json.loads(msgspec.json.decode(secret.value or b""))["d"] not in jwks.text + answer.text

    async def test_one_with_failed_files_says_how_many(self, cluster: Cluster):
        data = cluster.fill(4)
        cluster.origin.write("s3://b/order", "\n".join([*data, "s3://b/data/gone"]).encode())
        options = JobOptions(verify=True, min_hot_fraction=0.5)
        known = await cluster.coordinator.service.submit(JobSpec(index="s3://b/order", options=options))
        assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
        keys = {"keys": await cluster.coordinator.receipts.public_keys()}
        signed = (await cluster.coordinator.service.get(known.job.id)).job.receipt
        receipt = verify(signed, read_keys(json.dumps(keys).encode()), now=time.time())
        assert (receipt.listed.files, receipt.verified.files, receipt.failed.files) == (5, 4, 1)
        assert (receipt.hot_fraction, receipt.min_hot_fraction, receipt.index) == (0.8, 0.5, "s3://b/order")

    async def test_others_have_none_and_it_is_said_why(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(2)
        unverified = await submitted(cluster)
        await cluster.pause_workers()
        running = (await cluster.coordinator.service.submit(load(verify=True))).job
        for job_id, why in ((unverified.id, "without verify"), (running.id, "only a job that has SUCCEEDED")):
            assert (await client.get(f"/v1/jobs/{job_id}")).json()["receipt"] is None
            answer = await client.get(f"/v1/jobs/{job_id}/receipt")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert why in answer.json()["detail"]
        assert (await client.get("/v1/jobs/none/receipt")).json()["code"] == "job_not_found"

    async def test_it_is_written_with_the_end_and_the_same_everywhere(self, cluster: Cluster):
        cluster.fill(5)
        seen = list[Job]()

        async def watch() -> None:
            async for entry in cluster.engine.watch(Bucket.JOBS):
                if entry is not None and entry.value is not None:
                    seen.append(msgspec.json.decode(entry.value, type=Job))

        watching = asyncio.create_task(watch())
        job = await submitted(cluster, verify=True)
        other = cluster.new_coordinator("coordinator-1")
        async with running(other):
            assert (await other.service.get(job.id)).job.receipt == job.receipt
            transport = httpx.ASGITransport(create_app(other, CoordinatorSettings()))
            async with httpx.AsyncClient(transport=transport, base_url="http://other") as client:
                assert (await client.get(f"/v1/jobs/{job.id}/receipt")).text == job.receipt
            assert await other.receipts.public_keys() == await cluster.coordinator.receipts.public_keys()
        watching.cancel()
        assert {bool(each.receipt) for each in seen if each.state is JobState.SUCCEEDED} == {True}
        assert not any(each.receipt for each in seen if each.state is not JobState.SUCCEEDED)

    async def test_without_the_key_a_job_does_not_end_before_its_next_owner(self, cluster: Cluster):
        cluster.fill(3)
        await cluster.engine.put(Bucket.SECRETS, "receipts", b'"damaged"')
        known = await cluster.coordinator.service.submit(load(verify=True))
        deadline = asyncio.get_running_loop().time() + 20
        await cluster.coordinator.jobs.wait_until(known.job.id, lambda job, _: job.generation > 1, deadline)
        assert not (await cluster.coordinator.service.get(known.job.id)).job.state.ended
        await cluster.engine.delete(Bucket.SECRETS, "receipts")
        assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
        assert (await cluster.coordinator.service.get(known.job.id)).job.receipt


class running:  # noqa: N801 - read as a verb
    """Run a coordinator while the block runs."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._coordinator.run())
        await self._coordinator.wait_loaded()

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def test_readers_may_get_receipts_and_keys():
    assert needed_role("GET", "/v1/receipts/keys") is needed_role("GET", "/v1/jobs/x/receipt") is Role.READ


async def preheat(*arguments: str) -> int:
    def call() -> int:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return int(end.value.code or 0)

    return await asyncio.to_thread(call)


async def test_from_the_command_line(url: str, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cluster.fill(3)
    job = await submitted(cluster, verify=True)
    capsys.readouterr()
    assert await preheat("receipt", "show", job.id) == 0
    shown = capsys.readouterr().out
    assert shown == f"{job.receipt}\n"
    assert await preheat("receipt", "keys") == 0
    (tmp_path / "keys.json").write_text(capsys.readouterr().out)
    (tmp_path / "receipt").write_text(shown)
    for keys in ((), ("--keys", str(tmp_path / "keys.json"), "--coordinator", "http://127.0.0.1:9")):
        assert await preheat("receipt", "verify", *keys, str(tmp_path / "receipt")) == 0
        printed = capsys.readouterr().out
        assert "3 of 3 files, 24 B; read back from its owner" in printed
        assert job.id in printed
    (tmp_path / "edited").write_text(shown[:-5] + "AAAA\n")
    assert await preheat("receipt", "verify", str(tmp_path / "edited")) == 1
    assert "edited, or forged" in capsys.readouterr().err
    (tmp_path / "garbage").write_bytes(b"\xff\0\n")
    assert await preheat("receipt", "verify", str(tmp_path / "garbage")) == 1
    assert "not a receipt" in capsys.readouterr().err
    assert await preheat("receipt", "verify", "--keys", str(tmp_path), str(tmp_path / "receipt")) == 1
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "foreign").write_text(VECTOR)
    assert await preheat("receipt", "verify", str(tmp_path / "foreign"), "--json") == 1
    assert json.loads(capsys.readouterr().out)["code"] == "invalid_receipt"
    unverified = await submitted(cluster)
    assert await preheat("receipt", "show", unverified.id) == 1
    assert "without verify" in capsys.readouterr().err


@pytest.mark.parametrize(("least", "code"), [((), 1), (("--min-hot-fraction", "0.8"), 0)])
def test_a_part_is_not_all_unless_that_is_enough(run, tmp_path: Path, least: tuple[str, ...], code: int):
    part = {
        "verified": {"files": 4, "bytes": 4},
        "listed": {"files": 5, "bytes": 5},
        "failed": {"files": 1, "bytes": 1},
    }
    (tmp_path / "receipt").write_text(token(CLAIMS | part | {"iat": 1}))
    (tmp_path / "keys").write_text(json.dumps({"keys": [public_jwk(KEY.public_key())]}))
    ended = run("receipt", "verify", "--keys", str(tmp_path / "keys"), str(tmp_path / "receipt"), *least)
    assert (ended.code, "4 of 5 files, 4 B" in ended.out, "1 file, 1 B" in ended.out) == (code, True, True)
