"""Options of the commands that speak to the engine: one place for their names, variables and meaning."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from preheat.cli._errors import usage_errors
from preheat.settings import EngineSettings, TlsSettings


def _file(name: str, variable: str, help_text: str) -> Any:
    return typer.Option(name, envvar=variable, help=help_text, show_default=False)


NatsWait = Annotated[
    float,
    typer.Option(
        envvar="PREHEAT_NATS_WAIT",
        min=0,
        metavar="SECONDS",
        help="How long to wait at the start until the engine answers.",
    ),
]


def _engine(
    *,
    nats_url: Annotated[
        str,
        typer.Option(
            envvar="PREHEAT_NATS_URL",
            help="The engine; several servers with commas. "
            "Credentials belong into the variable: command lines are public.",
        ),
    ] = EngineSettings.url,
    nats_replicas: Annotated[
        int,
        typer.Option(envvar="PREHEAT_NATS_REPLICAS", min=1, max=5, help="Copies of the state: 3 in a NATS cluster."),
    ] = EngineSettings.replicas,
    nats_ca: Annotated[
        Path | None,
        _file("--nats-ca", "PREHEAT_NATS_CA_FILE", "Who signed the certificates of tls:// engines (PEM)."),
    ] = None,
    nats_cert: Annotated[
        Path | None, _file("--nats-cert", "PREHEAT_NATS_CERT_FILE", "A certificate to show to the engine (PEM).")
    ] = None,
    nats_key: Annotated[
        Path | None, _file("--nats-key", "PREHEAT_NATS_KEY_FILE", "That certificate's key (PEM).")
    ] = None,
    nats_credentials: Annotated[
        Path | None,
        _file(
            "--nats-credentials", "PREHEAT_NATS_CREDENTIALS_FILE", "A NATS .creds file, instead of a token in the URL."
        ),
    ] = None,
    nats_token_file: Annotated[
        Path | None,
        _file(
            "--nats-token-file", "PREHEAT_NATS_TOKEN_FILE", "A file with the engine's token, read at each connection."
        ),
    ] = None,
) -> EngineSettings:
    """Return how to reach the engine; ``PREHEAT_NATS_TOKEN`` is shown to it, if it is set."""
    return EngineSettings(
        url=nats_url,
        token=os.environ.get("PREHEAT_NATS_TOKEN", ""),
        token_file=nats_token_file,
        credentials_file=nats_credentials,
        tls=TlsSettings(cert=nats_cert, key=nats_key, ca=nats_ca),
        replicas=nats_replicas,
    )


def takes_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the engine's options in the place of its parameter ``engine``."""
    options = inspect.signature(_engine, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "engine"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        with usage_errors():
            engine = _engine(**{name: given.pop(name) for name in options})
        command(engine=engine, **given)

    taken = [*own, *options.values()]
    run.__signature__ = signature.replace(parameters=taken)  # type: ignore[attr-defined] # Typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    return run
