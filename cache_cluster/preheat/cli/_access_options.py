"""Options of the commands that serve: who is let in, and TLS. Each is also an environment variable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from preheat.settings import TlsSettings
from preheat.tls import server_context


def _file(name: str, variable: str, help_text: str) -> Any:
    return typer.Option(name, envvar=variable, help=help_text, show_default=False)


Auth = Annotated[
    bool, typer.Option("--auth", envvar="PREHEAT_AUTH", help="Ask every request for a token (see `preheat token`).")
]
AllowAnonymous = Annotated[
    bool,
    typer.Option(
        "--allow-anonymous",
        envvar="PREHEAT_ALLOW_ANONYMOUS",
        help="Serve other machines without --auth: whoever reaches the port may do everything.",
    ),
]
AdminTokenFile = Annotated[
    Path | None,
    _file("--admin-token-file", "PREHEAT_ADMIN_TOKEN_FILE", "With --auth: a file with the first admin's token."),
]
TlsCert = Annotated[Path | None, _file("--tls-cert", "PREHEAT_TLS_CERT", "Serve HTTPS with this certificate (PEM).")]
TlsKey = Annotated[Path | None, _file("--tls-key", "PREHEAT_TLS_KEY", "The certificate's key (PEM).")]


def serving_tls(cert: Path | None, key: Path | None) -> TlsSettings:
    """Return the TLS settings of a part that serves, and asks the other parts as a client.

    Raises:
        InvalidRequest: one of the files is missing, or cannot be used.
    """
    trusted = os.environ.get("PREHEAT_CA_FILE", "")  # also what --ca says
    cert, key, ca = (path and path.resolve() for path in (cert, key, Path(trusted) if trusted else None))
    tls = TlsSettings(cert=cert, key=key, ca=ca)
    server_context(tls)  # a wrong file is told here, and not by a process in the background
    return tls
