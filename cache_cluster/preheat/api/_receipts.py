"""Receipts of jobs, and the keys by which they are checked."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import Field

from preheat.api._schemas import Schema
from preheat.coordinator import Coordinator
from preheat.errors import NotFound
from preheat.receipts import MEDIA_TYPE, why_none


class KeyView(Schema):
    """A public key (RFC 7517, RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str = Field(description="Its thumbprint (RFC 7638), which receipts name.")
    alg: str
    use: str


class KeySet(Schema):
    """The keys that receipts are signed with (JWKS)."""

    keys: list[KeyView]


class JoseResponse(Response):
    """A compact JWS."""

    media_type = MEDIA_TYPE


def receipts_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of receipts."""
    router = APIRouter(tags=["jobs"])

    @router.get("/jobs/{job_id}/receipt", response_class=JoseResponse)
    async def receipt(job_id: str) -> JoseResponse:
        """Return what a verified job has proven, signed; 404 says why there is none."""
        job = (await coordinator.service.get(job_id)).job
        if not job.receipt:
            raise NotFound(f"The job {job_id} has no receipt: {why_none(job)}.", remedy="Submit it with verify=true.")
        return JoseResponse(job.receipt)

    @router.get("/receipts/keys")
    async def keys() -> KeySet:
        """Return the public keys of receipts, the same at every coordinator of the cluster."""
        return KeySet(keys=[KeyView(**key) for key in await coordinator.receipts.public_keys()])

    return router
