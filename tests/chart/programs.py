"""What the programs know: their commands, options and environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.credentials import AssumeRoleWithWebIdentityProvider, EnvProvider
from typer.main import get_command

from preheat.cli._app import app
from tests.chart.charts import ROOT, Manifest

SOURCES = ROOT / "cache_cluster" / "preheat"
_READ = re.compile(r"""environ(?:ment)?\.get\("([A-Z_]+)""")
_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")
Command = Any
"""Of the Click that Typer brings along."""
OF_GO = {"GOMEMLIMIT"}
"""Read by the Go runtime, which nats-server is built with."""


def command_of(container: Manifest) -> tuple[Command, list[str]]:
    """Return the command that a container's argv names, and the arguments of that."""
    return _descend(container["command"])


def _descend(argv: list[str]) -> tuple[Command, list[str]]:
    program, *arguments = argv
    assert program == "preheat"
    command: Command = get_command(app)
    while subcommands := getattr(command, "commands", None):
        command = subcommands[arguments.pop(0)]
    return command, arguments


def parsed(argv: list[str]) -> dict[str, object]:
    """Return the values of a command's options, from its arguments and the environment, converted and checked."""
    command, arguments = _descend(argv)
    return command.make_context(command.name, arguments).params


def variables_of(command: Command) -> set[str]:
    """Return the environment variables that a command's options have, and those of `preheat` itself."""
    options = [*command.params, *get_command(app).params]
    return {option.envvar for option in options if isinstance(option.envvar, str)}


@cache
def read_directly() -> frozenset[str]:
    """Return the variables that Preheat's code reads by itself, since they are secrets or lists."""
    return frozenset(name for path in SOURCES.rglob("*.py") for name in _READ.findall(path.read_text()))


@cache
def of_aws() -> frozenset[str]:
    """Return the variables that boto3 reads."""
    names: set[str] = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY, "AWS_ENDPOINT_URL"}
    names |= set(AssumeRoleWithWebIdentityProvider._CONFIG_TO_ENV_VAR.values())  # it has no public list
    for _, variables, *_ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        names |= {variables} if isinstance(variables, str) else set(variables or ())
    return frozenset(names)


def names_of(container: Manifest) -> list[str]:
    """Return the names of a container's variables, in their order."""
    return [variable["name"] for variable in container["env"]]


def references(value: str) -> Iterator[str]:
    """Yield the variables that a variable's value is made from."""
    yield from _REFERENCE.findall(value)


def environment(container: Manifest, **secrets: str) -> dict[str, str]:
    """Return the variables as the kubelet makes them; what comes from elsewhere is in `secrets`, by its name here."""
    known: dict[str, str] = {}
    for variable in container["env"]:
        value = variable.get("value", secrets.get(variable["name"], ""))
        known[variable["name"]] = _REFERENCE.sub(lambda found: known[found[1]], value)
    return known
