"""``preheat token``: making, listing and revoking the tokens of a cluster that runs with ``--auth``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from preheat.access import Role, Token, parse_lifetime
from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, print_table, shown_time
from preheat.client import Client
from preheat.errors import Conflict, NotFound

_ROUTE = "/v1/tokens"


class TokenReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token as ``GET /v1/tokens`` describes it."""

    id: str
    name: str = ""
    role: Role
    paths: tuple[str, ...] = ()
    created_at: datetime
    expires_at: datetime | None = None
    access_key_id: str | None = None


class S3Key(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The S3 credentials of a token that was made just now."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return f"S3Key(access_key_id={self.access_key_id!r})"

    @property
    def variables(self) -> dict[str, str]:
        """What S3 clients read them from."""
        return {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}


class MadeToken(TokenReport, frozen=True, kw_only=True, rename="camel"):
    """The answer to a request for a new one."""

    token: str
    s3: S3Key | None = None

    def __repr__(self) -> str:
        return f"MadeToken(id={self.id!r})"


class TokenPage(msgspec.Struct, frozen=True, kw_only=True):
    """All tokens, the newest first."""

    tokens: tuple[TokenReport, ...] = ()


class TokenClient(Client):
    """The client of an admin."""

    def create(self, **wanted: Any) -> MadeToken:
        """Make a token."""
        with _without_auth_named(self.url):
            return msgspec.json.decode(self._request("POST", _ROUTE, json=wanted).content, type=MadeToken)

    def tokens(self) -> TokenPage:
        """Return the tokens."""
        with _without_auth_named(self.url):
            return msgspec.json.decode(self._request("GET", _ROUTE).content, type=TokenPage)

    def revoke(self, token_id: str) -> None:
        """Revoke a token."""
        self._request("DELETE", f"{_ROUTE}/{quote(token_id, safe='')}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tokens = typer.Typer(no_args_is_help=True, help="Manage the tokens of a cluster that runs with --auth.")
    tokens.command("create")(create)
    tokens.command("ls")(list_tokens)
    tokens.command("revoke")(revoke)
    tokens.command("generate")(generate)
    app.add_typer(tokens, name="token")


def create(
    *,
    role: Annotated[Role, typer.Option(help="What it allows; each role includes those before it.")],
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="Only at and below this path; may be repeated.  [default: everywhere]"),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is valid, e.g. 30d or 12h.  [default: until revoked]")
    ] = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    s3: Annotated[bool, typer.Option("--s3", help="Make S3 credentials that belong to it, too.")] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Make a token and print it. It is shown this once; the cluster keeps a hash, and the secret key of S3 credentials.

    S3 credentials allow what the token does: read is to list and to get, submit is to write as well.
    """
    wanted: dict[str, Any] = {"role": role, "paths": path or [], "name": name, "s3": s3}
    if expires:
        with usage_errors():
            wanted["expiresIn"] = parse_lifetime(expires)
    with TokenClient.from_environment(coordinator) as client:
        made = client.create(**wanted)
    variables = made.s3.variables if made.s3 else {}
    if as_json:
        print_json({**msgspec.to_builtins(made), "env": variables})
        return
    print_pairs([("token", made.token), *_described(made)], title="Keep the token: it is not shown again")
    for variable, value in variables.items():
        typer.echo(f"{variable}={value}")


def list_tokens(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List the tokens, without their secrets."""
    with TokenClient.from_environment(coordinator) as client:
        page = client.tokens()
    if as_json:
        print_json(page)
        return
    rows = ([value for _, value in _described(token)] for token in page.tokens)
    print_table(("ID", "ROLE", "PATHS", "CREATED", "EXPIRES", "NAME", "S3"), rows)


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, the part after ph_.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a token: within a second no part of the cluster takes it any more."""
    with TokenClient.from_environment(coordinator) as client:
        client.revoke(token_id)
    if as_json:
        print_json({"revoked": token_id})
    else:
        typer.echo(f"Revoked the token {token_id}.")


def generate() -> None:
    """Print a fresh token that no cluster knows yet, for PREHEAT_ADMIN_TOKEN_FILE of a cluster to come."""
    typer.echo(Token.new().text)


def _described(token: TokenReport) -> list[tuple[str, str]]:
    return [
        ("id", token.id),
        ("role", token.role),
        ("paths", " ".join(token.paths) or "everywhere"),
        ("created", shown_time(token.created_at)),
        ("expires", shown_time(token.expires_at)),
        ("name", token.name or "-"),
        ("s3", token.access_key_id or "-"),
    ]


@contextmanager
def _without_auth_named(url: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Conflict(
            f"The coordinator at {url} asks nobody for a token.", remedy="Start it with --auth, then make tokens."
        ) from error
