"""Who may do what: tokens, roles and path prefixes.

A token is ``ph_<id>_<secret>``. What is stored of it is a :class:`TokenRecord`, with a hash of the secret: 256 random
bits need no slow hash. A token may have S3 credentials besides, whose secret is stored as it is.

A prefix covers the object of its name and everything below it, never a name that merely begins alike: ``s3://b/data``
covers ``s3://b/data/x`` and not ``s3://b/database``.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Self

from preheat.errors import Forbidden, InvalidPath, InvalidRequest, Unauthenticated
from preheat.jobs import JobSpec
from preheat.paths import UfsPath, has_relative_part

_ID_BYTES = 6
_SECRET_BYTES = 32
_TOKEN = re.compile(r"ph_([A-Za-z0-9-]+)_([A-Za-z0-9_-]{43,})")
_S3_SECRET_BYTES = 30
"""Forty characters, as AWS's have."""
_ACCESS_KEY = "PHS3"
_BEARER = "bearer "
_LIFETIME = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Role(StrEnum):
    """What a token allows; each role includes those before it."""

    READ = "read"  #: look at jobs and workers, read data
    SUBMIT = "submit"  #: submit, change and stop jobs
    ADMIN = "admin"  #: make and revoke tokens, manage workers

    def includes(self, needed: Role) -> bool:
        """Whether this role may do what ``needed`` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What a request may do."""

    role: Role
    prefixes: tuple[str, ...] = ()
    """Where, as :func:`parse_prefix` returns them; empty is everywhere."""

    def covers(self, path: UfsPath) -> bool:
        """Whether a path lies within the prefixes. One with a ``..`` never does: some stores would follow it."""
        if not self.prefixes:
            return True
        return f"{path}/".startswith(self.prefixes) and not has_relative_part(path.key)

    def covers_listing(self, prefix: UfsPath) -> bool:
        """Whether all that begins with a path, which may end within a name, lies within the prefixes."""
        return not self.prefixes or (str(prefix).startswith(self.prefixes) and not has_relative_part(prefix.key))

    def plainly_covers(self, uri: str) -> bool:
        """Whether a quick look at a URI tells that its path is covered; if not, :meth:`covers` says."""
        return not self.prefixes or (f"{uri}/".startswith(self.prefixes) and "/." not in uri)


EVERYTHING = Grant(role=Role.ADMIN)
"""What every request may do where nobody is asked for a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRecord:
    """A token as it is stored: enough to recognise it, nothing to make it from.

    Its S3 credentials, if it has any, are the exception: Signature Version 4 is symmetric, so that who verifies it
    needs the secret key itself. It is kept in the engine with the record, readable by whoever has the credentials of
    the engine, which is the coordinators and the workers. It never is in a log or in an answer but the first.
    """

    id: str
    name: str = ""
    grant: Grant
    created_at: float
    """Seconds since the epoch, as ``expires_at``."""
    expires_at: float | None = None
    sha256: str
    """Of the secret, in hexadecimal."""
    secret_key: str = field(default="", repr=False)
    """Of the S3 credentials, as it is; empty if the token has none."""

    @property
    def access_key_id(self) -> str:
        """The name of the S3 credentials; empty if the token has none."""
        return access_key_id(self.id) if self.secret_key else ""

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now

    def accepts(self, token: Token) -> bool:
        """Whether a token is this one, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.sha256, token.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token as its owner has it."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Return a token that nobody can guess."""
        return cls(id=secrets.token_hex(_ID_BYTES), secret=secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token.

        Raises:
            Unauthenticated: it does not look like one.
        """
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise Unauthenticated("The token does not look like one of Preheat's (ph_…).")
        return cls(id=match[1], secret=match[2])

    @classmethod
    def from_header(cls, authorization: str) -> Self:
        """Read the value of an ``Authorization`` header.

        Raises:
            Unauthenticated: there is none, or it holds no token.
        """
        if not authorization:
            raise Unauthenticated("The request has no token.")
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("The header Authorization is not `Bearer TOKEN`.")
        return cls.parse(authorization[len(_BEARER) :])

    @property
    def sha256(self) -> str:
        """The hash by which the token is recognised."""
        return sha256(self.secret.encode()).hexdigest()

    @property
    def text(self) -> str:
        """The token as a client sends it: a secret."""
        return f"ph_{self.id}_{self.secret}"

    def record(
        self, *, grant: Grant, created_at: float, name: str = "", lifetime: float | None = None, secret_key: str = ""
    ) -> TokenRecord:
        """Return what is stored of it; without a lifetime, in seconds, it is valid until revoked.

        Raises:
            InvalidRequest: an admin cannot be bound to paths: it could make itself another token.
        """
        if grant.role is Role.ADMIN and grant.prefixes:
            raise InvalidRequest(
                "A token with the role admin cannot be bound to paths: it could make one that is not.",
                remedy="Leave the paths out, or take the role submit.",
            )
        return TokenRecord(
            id=self.id,
            name=name,
            grant=grant,
            created_at=created_at,
            expires_at=None if lifetime is None else created_at + lifetime,
            sha256=self.sha256,
            secret_key=secret_key,
        )


def new_secret_key() -> str:
    """Return a secret key for S3 credentials that nobody can guess."""
    return secrets.token_urlsafe(_S3_SECRET_BYTES)


def access_key_id(token_id: str) -> str:
    """Return the id of the access key that belongs to a token: in capitals, as AWS's are."""
    return _ACCESS_KEY + token_id.upper()


def token_id_of(access_key_id: str) -> str:
    """Return the id of the token that an access key belongs to; empty if it is none of Preheat's."""
    return access_key_id.removeprefix(_ACCESS_KEY).lower() if access_key_id.startswith(_ACCESS_KEY) else ""


def parse_prefix(uri: str) -> str:
    """Return a path prefix in the form that is stored, ending with one slash.

    Raises:
        InvalidPath: it is no path, or has an empty or a relative part.
    """
    path = UfsPath.parse(uri)
    key = path.key.removesuffix("/")
    if has_relative_part(key) or (key and "" in key.split("/")):
        raise InvalidPath(f"path={uri!r} has an empty or a relative part.", remedy="Write a prefix such as s3://b/p/.")
    return str(path.with_key(f"{key}/" if key else ""))


def parse_lifetime(text: str, *, field: str = "expires") -> float:
    """Return the seconds of a text such as ``30d``, ``12h`` or ``90m``; ``field`` is what errors call it.

    Raises:
        InvalidRequest: it is no such text, or nothing.
    """
    match = _LIFETIME.fullmatch(text.strip())
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not seconds:
        raise InvalidRequest(f"{field}={text[:40]!r} is not a time span.", remedy="Write 30d, 12h or 90m, say.")
    return float(seconds)


def authorize(grant: Grant, needed: Role, paths: Iterable[UfsPath] = ()) -> None:
    """Refuse what a grant does not allow.

    Raises:
        Forbidden: the role is too low, or one of the paths is not within the prefixes.
    """
    if not grant.role.includes(needed):
        raise Forbidden(f"This takes a token with the role {needed}; the one that was sent has the role {grant.role}.")
    for path in paths:
        if not grant.covers(path):
            raise Forbidden(f"path='{path}' is outside of what the token is for: {', '.join(grant.prefixes)}.")


def paths_of(spec: JobSpec) -> tuple[str, ...]:
    """Return every path that a job names: what it reads, its index, and where it writes to."""
    return (*spec.paths, *filter(None, (spec.index, spec.destination)))


_caller: ContextVar[Grant] = ContextVar("caller", default=EVERYTHING)
"""Who asks, while a request is answered. The process's own work has no caller and may do everything."""


def caller() -> Grant:
    """Return what the request that is being answered may do."""
    return _caller.get()


@contextmanager
def acting_for(grant: Grant) -> Iterator[None]:
    """Answer a request in the block."""
    previous = _caller.set(grant)
    try:
        yield
    finally:
        _caller.reset(previous)


def check_job(spec: JobSpec) -> None:
    """Refuse a job that the present caller may not submit, see or change.

    Raises:
        Forbidden: it names a path outside of the caller's prefixes, or none at all.
        InvalidPath: one of its paths is none.
    """
    grant = caller()
    if not grant.prefixes:
        return
    paths = [UfsPath.parse(uri) for uri in paths_of(spec)]
    authorize(grant, Role.READ, paths)
    if not paths:
        raise Forbidden("The job names no path, and the token is bound to some.")


def for_caller(spec: JobSpec) -> JobSpec:
    """Return a job as the present caller may have it done: what its index names is bound to the prefixes too.

    Raises:
        Forbidden, InvalidPath: as :func:`check_job`.
    """
    check_job(spec)
    return replace(spec, within=caller().prefixes) if spec.index or spec.retry_of else spec


def may_see(spec: JobSpec) -> bool:
    """Whether a list for the present caller shows a job."""
    try:
        check_job(spec)
    except (Forbidden, InvalidPath):
        return False
    return True
