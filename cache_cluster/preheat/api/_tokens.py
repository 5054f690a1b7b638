"""Making, listing and revoking tokens: ``/v1/tokens``, for admins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BeforeValidator, Field

from preheat.access import Grant, Role, TokenRecord, parse_lifetime, parse_prefix
from preheat.api._schemas import Schema
from preheat.tokens import TokenStore

_MAX_PREFIXES = 100


def _seconds(value: object) -> object:
    return parse_lifetime(value) if isinstance(value, str) else value


class NewToken(Schema):
    """A token to be made."""

    role: Role
    paths: list[str] = Field(
        default_factory=list, max_length=_MAX_PREFIXES, description="Prefixes that it is bound to; empty is everywhere."
    )
    name: str = Field("", max_length=200, description="What it is for.")
    expires_in: Annotated[float | None, BeforeValidator(_seconds)] = Field(
        None, gt=0, le=100 * 365 * 86400, description="Seconds, or a text such as 30d; null is until it is revoked."
    )
    s3: bool = Field(default=False, description="Whether it has S3 credentials, too.")


class S3Key(Schema):
    """S3 credentials that were made just now."""

    access_key_id: str
    secret_access_key: str = Field(repr=False)


class TokenView(Schema):
    """A token, without its secret."""

    id: str
    name: str
    role: Role
    paths: list[str]
    created_at: datetime
    expires_at: datetime | None
    access_key_id: str | None = Field(description="Of its S3 credentials; null without.")

    @classmethod
    def of(cls, record: TokenRecord) -> TokenView:
        """Show a token."""
        return cls(**_shown(record))


class MadeToken(TokenView):
    """A token that was made just now."""

    token: str = Field(repr=False, description="What clients send. It is shown this once.")
    s3: S3Key | None = Field(description="Its S3 credentials, shown this once; null without.")


class TokenList(Schema):
    """The tokens, the newest first."""

    tokens: list[TokenView]


def tokens_router(tokens: TokenStore) -> APIRouter:
    """Return the routes of token administration; the access middleware asks for the role admin."""
    router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

    @router.post("", status_code=201)
    async def create(body: NewToken, response: Response) -> MadeToken:
        """Make a token; the answer is the only place where it is shown."""
        grant = Grant(role=body.role, prefixes=tuple(sorted({parse_prefix(path) for path in body.paths})))
        record, token = await tokens.create(grant=grant, name=body.name, lifetime=body.expires_in, s3=body.s3)
        response.headers["Cache-Control"] = "no-store"
        return MadeToken(**_shown(record), token=token.text, s3=_s3_key(record))

    @router.get("")
    async def list_tokens() -> TokenList:
        """List the tokens, expired ones too."""
        return TokenList(tokens=[TokenView.of(record) for record in tokens.list()])

    @router.delete("/{token_id}", status_code=204)
    async def revoke(token_id: str) -> None:
        """Revoke a token: within a second no part of the cluster takes it any more."""
        await tokens.revoke(token_id)

    return router


def _s3_key(record: TokenRecord) -> S3Key | None:
    if not record.secret_key:
        return None
    return S3Key(access_key_id=record.access_key_id, secret_access_key=record.secret_key)


def _shown(record: TokenRecord) -> dict[str, object]:
    expires_at = record.expires_at
    return {
        "id": record.id,
        "name": record.name,
        "role": record.grant.role,
        "paths": list(record.grant.prefixes),
        "created_at": datetime.fromtimestamp(record.created_at, tz=UTC),
        "expires_at": None if expires_at is None else datetime.fromtimestamp(expires_at, tz=UTC),
        "access_key_id": record.access_key_id or None,
    }
