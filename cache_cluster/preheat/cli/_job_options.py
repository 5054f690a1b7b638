"""The options of jobs: written once, for every command that submits one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from preheat.cli._errors import parse_bandwidth, parse_deadline_option
from preheat.jobs import JobOptions, JobSpec, Priority

_DEFAULTS = JobOptions()
_OPTIONS: dict[str, Any] = {
    "replicas": Annotated[int, typer.Option(min=1, help="Workers that hold each file.")],
    "verify": Annotated[bool, typer.Option("--verify", help="Read every file back from its workers before success.")],
    "skip_if_exists": Annotated[
        bool,
        typer.Option("--skip-if-exists/--no-skip-if-exists", help="Leave files alone that are there in this version."),
    ],
    "load_metadata_only": Annotated[
        bool, typer.Option("--metadata-only", help="Make sizes and versions known; fetch nothing.")
    ],
    "bandwidth": Annotated[
        int | None,
        typer.Option(
            parser=parse_bandwidth, metavar="RATE", help="Per worker and second, e.g. 100MiB; else unlimited."
        ),
    ],
    "priority": Annotated[
        Priority, typer.Option(case_sensitive=False, help="Which job goes first where several wait.")
    ],
    "deadline": Annotated[
        float | None,
        typer.Option(
            parser=parse_deadline_option,
            metavar="TIME",
            help="Fail if it has not ended by then: 2h, 06:00 (the next one), or ISO 8601 with an offset.",
        ),
    ],
    "batch_size": Annotated[int, typer.Option(min=1, help="Files in one request to a worker.")],
    "file_filter_regex": Annotated[
        str | None,
        typer.Option(
            "--file-filter-regx", "--file-filter-regex", metavar="REGEX", help="Only keys that this matches in full."
        ),
    ],
    "min_hot_fraction": Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Succeed with failed files if this share is hot, e.g. 0.99."),
    ],
    "max_failed_files": Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Succeed with up to this many failed files.")
    ],
}
IndexFile = Annotated[
    str | None,
    typer.Option(metavar="URI", help="A file that names what to load, one path a line, in the place of PATH."),
]

Command = Callable[..., None]


def takes_job_options(*names: str) -> Callable[[Command], Command]:
    """Let a command take its parameter ``options`` as one option for each of these fields (by default all)."""
    wanted = names or tuple(_OPTIONS)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(*args: Any, **values: Any) -> None:
            options = JobOptions(**{name: values.pop(name) for name in wanted})
            command(*args, **values, options=options)

        signature = _signature(command, wanted)
        run.__signature__ = signature  # type: ignore[attr-defined] # Typer makes the command of it
        run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return run

    return decorate


def _signature(command: Command, names: tuple[str, ...]) -> inspect.Signature:
    """Return the command's signature with a parameter for each field in the place of ``options``."""
    fields = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(_DEFAULTS, name), annotation=_OPTIONS[name]
        )
        for name in names
    ]
    signature = inspect.signature(command, eval_str=True)
    parameters = list[inspect.Parameter]()
    for name, parameter in signature.parameters.items():
        parameters += fields if name == "options" else [parameter]
    return signature.replace(parameters=parameters)


def load_spec(path: str | None, index_file: str | None, options: JobOptions) -> JobSpec:
    """Return the load of a path, or of what an index file names."""
    if (path is None) == (index_file is None):
        raise typer.BadParameter("Give one path, or an index file.")
    return JobSpec(paths=(path,) if path else (), index=index_file or "", options=options)
