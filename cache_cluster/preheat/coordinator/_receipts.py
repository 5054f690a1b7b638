"""The receipts of jobs, signed with one key, whichever coordinator does it.

The key is made by the first coordinator that needs it, and kept by the engine beside the workers' secret: whoever has
the credentials of the engine can read it, which are the coordinators and the workers, and no client of the API.
"""

from __future__ import annotations

import asyncio

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from preheat.engine import Bucket, Engine
from preheat.errors import Conflict, EngineUnavailable
from preheat.jobs import Job
from preheat.logs import get_logger
from preheat.receipts import key_id, public_jwk, receipt_of, sign

log = get_logger("coordinator")
_KEY = "receipts"
_ATTEMPTS = 100
_CONFLICT_SECONDS = 0.05


class ReceiptSigner:
    """Signs what jobs have proven.

    Args:
        engine: keeps the key.
        issuer: the URL of this coordinator.
    """

    def __init__(self, engine: Engine, *, issuer: str) -> None:
        self._engine = engine
        self._issuer = issuer

    async def sign(self, job: Job) -> str:
        """Return the receipt of a job that is about to have ended; empty if it has proven nothing.

        Raises:
            EngineUnavailable: the key cannot be read now.
        """
        receipt = receipt_of(job, issuer=self._issuer)
        return sign(receipt, await self._key()) if receipt else ""

    async def public_keys(self) -> list[dict[str, str]]:
        """Return the keys by which receipts are checked, as JWKs; raises as :meth:`sign`."""
        return [public_jwk((await self._key()).public_key())]

    async def _key(self) -> Ed25519PrivateKey:
        """Return the key as the engine has it, lest two coordinators sign with two; make it if there is none."""
        for _ in range(_ATTEMPTS):
            entry = await self._engine.get(Bucket.SECRETS, _KEY)
            if entry is not None and entry.value is not None:
                return _decode(entry.value)
            key = Ed25519PrivateKey.generate()
            try:
                await self._engine.put(Bucket.SECRETS, _KEY, _encode(key), revision=0)
            except Conflict:  # another coordinator was first, and the node that is asked may be behind
                await asyncio.sleep(_CONFLICT_SECONDS)
            else:
                log.info("Receipts have a key.", action="receipt_key_made", key=key_id(key.public_key()))
                return key
        raise EngineUnavailable("The key of receipts is there and cannot be read.", remedy="Try again.")


def _encode(key: Ed25519PrivateKey) -> bytes:
    return msgspec.json.encode(OKPAlgorithm.to_jwk(key))  # a text, as each value of the bucket is


def _decode(value: bytes) -> Ed25519PrivateKey:
    try:
        key = OKPAlgorithm.from_jwk(msgspec.json.decode(value, type=str))
    except (msgspec.DecodeError, jwt.InvalidKeyError) as error:
        raise _damaged() from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged()
    return key


def _damaged() -> EngineUnavailable:
    return EngineUnavailable(
        f"The key of receipts that the engine keeps is none (bucket {Bucket.SECRETS}, key {_KEY}).",
        remedy="Delete it there: the next receipt makes another one.",
    )
