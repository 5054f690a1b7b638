"""The tokens of a cluster: kept in the engine, known to every process at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from preheat.access import Grant, Role, Token, TokenRecord, new_secret_key, token_id_of
from preheat.engine import Bucket, Engine, Entry, is_token
from preheat.errors import EngineUnavailable, NotFound, Unauthenticated
from preheat.logs import get_logger
from preheat.views import BucketView

log = get_logger("tokens")
_MAX_RECOGNISED = 1024


class _View(BucketView[TokenRecord]):
    """The tokens, telling when one of them changed."""

    def __init__(self, engine: Engine, *, on_change: Callable[[], None]) -> None:
        super().__init__(engine, Bucket.TOKENS, TokenRecord)
        self._on_change = on_change

    def apply(self, entry: Entry) -> None:
        """Take an entry over, and tell."""
        super().apply(entry)
        self._on_change()


class TokenStore:
    """Makes, lists, revokes and recognises tokens.

    What one process changes, the others know as soon as their watch brings it. While the engine is away the tokens
    known last stay valid.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recognised: dict[str, TokenRecord] = {}
        """By the header that a client sent: most requests cost this one look-up."""
        self._view = _View(engine, on_change=self._recognised.clear)

    @property
    def loaded(self) -> asyncio.Event:
        """Set once the tokens that were there at the start are known."""
        return self._view.loaded

    async def follow(self) -> None:
        """Watch the tokens until cancelled."""
        await self._view.follow()

    def authenticate(self, authorization: str) -> Grant:
        """Return what the sender of an ``Authorization`` header may do.

        Raises:
            Unauthenticated: it has no token, or one that is unknown, was revoked, or has expired.
            EngineUnavailable: the tokens are not known yet.
        """
        record = self._recognised.get(authorization)
        if record is None:
            record = self._recognise(Token.from_header(authorization))
            if len(self._recognised) >= _MAX_RECOGNISED:
                self._recognised.clear()
            self._recognised[authorization] = record
        if record.expired(time.time()):
            raise Unauthenticated(f"The token {record.id} has expired.")
        return record.grant

    def _recognise(self, token: Token) -> TokenRecord:
        known = self._view.get(token.id)
        if known is None and not self.loaded.is_set():
            raise EngineUnavailable("The tokens are not known yet.", remedy="Try again.")
        if known is None or not known[0].accepts(token):
            raise Unauthenticated("The token is not known: it is wrong, or was revoked.")
        return known[0]

    def s3_record(self, access_key_id: str) -> TokenRecord:
        """Return the valid token to which an access key belongs.

        Raises:
            Unauthenticated: there is none: the key is wrong, or its token was revoked or has expired.
            EngineUnavailable: the tokens are not known yet.
        """
        known = self._view.get(token_id_of(access_key_id))
        if known is None and not self.loaded.is_set():
            raise EngineUnavailable("The tokens are not known yet.", remedy="Try again.")
        if known is None or known[0].access_key_id != access_key_id:
            raise Unauthenticated("The access key is not known: it is wrong, or its token was revoked.")
        if known[0].expired(time.time()):
            raise Unauthenticated(f"The token {known[0].id}, to which the access key belongs, has expired.")
        return known[0]

    async def create(
        self, *, grant: Grant, name: str = "", lifetime: float | None = None, s3: bool = False
    ) -> tuple[TokenRecord, Token]:
        """Make a token and return it, for the only time, with its record.

        Args:
            grant: what it allows.
            name: what it is for.
            lifetime: seconds; without, it is valid until revoked.
            s3: give it S3 credentials, too.

        Raises:
            InvalidRequest: there is no such token.
        """
        token = Token.new()
        secret_key = new_secret_key() if s3 else ""
        record = token.record(grant=grant, name=name, lifetime=lifetime, created_at=time.time(), secret_key=secret_key)
        await self._put(record, revision=0)
        log.info("A token was made.", action="token_created", token=record.id, role=grant.role, paths=grant.prefixes)
        return record, token

    def list(self) -> list[TokenRecord]:
        """Return the tokens, expired ones too, the newest first."""
        return sorted((record for record, _ in self._view.values()), key=lambda record: -record.created_at)

    async def revoke(self, token_id: str) -> None:
        """Make a token invalid.

        Raises:
            NotFound: there is none of this id.
        """
        entry = await self._engine.get(Bucket.TOKENS, token_id) if is_token(token_id) else None
        if entry is None or entry.value is None:
            raise NotFound(f"There is no token {token_id!r}.", remedy="List them with `preheat token ls`.")
        await self._engine.delete(Bucket.TOKENS, token_id)
        self._view.apply(Entry(key=token_id, value=None, revision=entry.revision + 1))
        log.info("A token was revoked.", action="token_revoked", token=token_id)

    async def adopt_admin(self, token: Token) -> None:
        """Make the token that the operator chose an admin's, unless it is one."""
        known = await self._stored(token)
        if known is None or known.grant.role is not Role.ADMIN:
            await self._adopt(token, Role.ADMIN, name="bootstrap")

    async def adopt_own(self, token: Token) -> None:
        """Make the token valid that coordinators and workers show to each other, unless it is known."""
        if await self._stored(token) is None:
            await self._adopt(token, Role.SUBMIT, name="cluster")

    async def _stored(self, token: Token) -> TokenRecord | None:
        entry = await self._engine.get(Bucket.TOKENS, token.id)
        if entry is None or entry.value is None:
            return None
        record = msgspec.json.decode(entry.value, type=TokenRecord)
        return record if record.accepts(token) else None

    async def _adopt(self, token: Token, role: Role, *, name: str) -> None:
        record = token.record(grant=Grant(role=role), name=name, created_at=time.time())
        await self._put(record)
        log.info("The operator's token is valid.", action="token_adopted", token=record.id, role=role)

    async def _put(self, record: TokenRecord, *, revision: int | None = None) -> None:
        value = msgspec.json.encode(record)
        written = await self._engine.put(Bucket.TOKENS, record.id, value, revision=revision)
        self._view.apply(Entry(key=record.id, value=value, revision=written))
