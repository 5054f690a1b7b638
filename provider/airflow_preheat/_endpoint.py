"""An Airflow connection, read as the address of a coordinator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, get_args
from urllib.parse import urlsplit

from airflow_preheat.exceptions import PreheatRequestError

DEFAULT_CONN_ID = "preheat_default"
DEFAULT_PORT = 19999
_CONNECT_TIMEOUT = 5.0
_REQUEST_TIMEOUT = 60.0


DialectName = Literal["auto", "preheat", "alluxio-3.3", "alluxio-3.6"]
"""Whose API the coordinator speaks; ``auto`` asks it."""


class ConnectionLike(Protocol):
    """The fields of an Airflow connection that are read."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    password: str | None
    extra: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where the coordinator is, and how to speak to it."""

    conn_id: str
    url: str
    """Without a trailing slash."""
    token: str | None = field(repr=False, default=None)
    connect_timeout: float = _CONNECT_TIMEOUT
    """Seconds until a connection must stand."""
    request_timeout: float = _REQUEST_TIMEOUT
    """Seconds until a request must be answered, besides the time it asks the coordinator to wait."""
    verify_tls: bool = True
    ca_cert: str | None = None
    """Path of a PEM file; by default the system's authorities."""
    dialect: DialectName = "auto"

    @classmethod
    def from_connection(cls, connection: ConnectionLike) -> Endpoint:
        """Read a connection.

        Its ``extra`` is parsed here and not by ``extra_dejson``: that masks through a blocking call to the
        supervisor, which must not happen on the triggerer's event loop; nothing in the extra is secret.

        Raises:
            PreheatRequestError: a field has a value that cannot be used; it names connection and field.
        """
        settings = _extra(connection)
        return cls(
            conn_id=connection.conn_id,
            url=_url(connection, settings),
            token=connection.password or None,
            connect_timeout=_seconds(connection, settings, "connect_timeout", _CONNECT_TIMEOUT),
            request_timeout=_seconds(connection, settings, "request_timeout", _REQUEST_TIMEOUT),
            verify_tls=_switch(connection, settings, "verify_tls"),
            ca_cert=settings.get("ca_cert") or None,
            dialect=_dialect(connection, settings),
        )


def _extra(connection: ConnectionLike) -> Mapping[str, Any]:
    try:
        settings = json.loads(connection.extra or "{}")
    except json.JSONDecodeError as error:
        raise _unusable(connection, f"extra is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise _unusable(connection, "extra is not a JSON object.")
    return settings


def _url(connection: ConnectionLike, settings: Mapping[str, Any]) -> str:
    url = str(settings.get("url") or _url_from_fields(connection))
    if "@" in url:
        raise _unusable(connection, "its URL has credentials in it. Put the token into the password field.")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise _unusable(connection, f"url={url!r}: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unusable(connection, f"url={url!r} is not a URL. Write for example http://127.0.0.1:{DEFAULT_PORT}.")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _url_from_fields(connection: ConnectionLike) -> str:
    host = connection.host or ""
    if not host:
        raise _unusable(connection, f"it has no host. Write for example 127.0.0.1, port {DEFAULT_PORT}.")
    if "://" in host:
        return f"{host.rstrip('/')}:{connection.port}" if connection.port else host
    return f"{connection.schema or 'http'}://{host}:{connection.port or DEFAULT_PORT}"


def _seconds(connection: ConnectionLike, settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name)
    if value is None or value == "":
        return default
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise _unusable(connection, f"{name}={value!r} is not a number of seconds.") from error
    if not 0 < seconds < float("inf"):
        raise _unusable(connection, f"{name}={value!r} must be more than 0 seconds.")
    return seconds


def _switch(connection: ConnectionLike, settings: Mapping[str, Any], name: str) -> bool:
    value = settings.get(name)
    if value is None:
        return True
    text = str(value).lower()
    if text not in ("true", "false"):
        raise _unusable(connection, f"{name}={value!r} is not true or false.")
    return text == "true"


def _dialect(connection: ConnectionLike, settings: Mapping[str, Any]) -> DialectName:
    name = str(settings.get("dialect") or "auto").lower()
    if name not in get_args(DialectName):
        raise _unusable(connection, f"dialect={name!r} is not known. Write one of {', '.join(get_args(DialectName))}.")
    return cast("DialectName", name)


def _unusable(connection: ConnectionLike, problem: str) -> PreheatRequestError:
    return PreheatRequestError(f"Airflow connection {connection.conn_id!r} is not usable: {problem}")
