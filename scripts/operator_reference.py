"""Writes docs/reference/operators.md from the docstrings and signatures of the provider's classes.

``make reference`` runs it; ``tests/unit/test_operator_reference.py`` fails if the page is not current.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from airflow_preheat import operators, sensors, triggers
from airflow_preheat.operators._job import JobOperator

PAGE = Path(__file__).parents[1] / "docs/reference/operators.md"
_HEAD = """# Operators, sensors and triggers

All arguments of the provider's classes, as their docstrings have them: `make reference` writes this page. How they
belong together is told in [the Airflow provider](provider.md). All are keyword arguments; † may be templates.
"""
_ROLE = re.compile(r":(?:class|mod|func|attr|meth):`~?([\w.]+)`")
_LINK = re.compile(r"`([^`<]+) <([^>]+)>`_")
_ARGUMENT = re.compile(r"^(\w+): (.*)$")
_SECTION = re.compile(r"^(Args|Raises|Returns):$")


@dataclass(frozen=True, kw_only=True)
class Documented:
    """A docstring in its parts."""

    text: str
    arguments: dict[str, str]
    more: str
    """Which arguments it takes besides."""

    @classmethod
    def of(cls, documented: type) -> Documented:
        """Read the docstring of a class, in Google's style."""
        lines = inspect.cleandoc(documented.__doc__ or "").splitlines()
        start = next((number for number, line in enumerate(lines) if _SECTION.match(line)), len(lines))
        arguments = _arguments(lines[start:])
        more = arguments.pop("kwargs", "")
        return cls(text=_markdown("\n".join(lines[:start]).strip()), arguments=arguments, more=more)


def _arguments(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    section = name = ""
    for line in lines:
        if heading := _SECTION.match(line):
            section = heading[1]
        elif section == "Args" and (match := _ARGUMENT.match(line.removeprefix("    "))):
            name = match[1]
            found[name] = match[2]
        elif section == "Args" and line.strip():
            found[name] += f" {line.strip()}"
    return {name: _markdown(text) for name, text in found.items()}


def _markdown(text: str) -> str:
    """Return reStructuredText's roles, literals and links as Markdown's, and paragraphs on one line each."""
    text = _LINK.sub(r"[\1](\2)", text)
    text = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text).replace("``", "`")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def _parameters(documented: type) -> Iterator[inspect.Parameter]:
    """Return what a class takes by itself, and by private bases that have no section of their own."""
    for declaring in documented.__mro__:
        if "__init__" in vars(declaring) and (declaring is documented or declaring.__name__.startswith("_")):
            for parameter in inspect.signature(declaring.__init__).parameters.values():
                if parameter.name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    yield parameter


def _default(parameter: inspect.Parameter) -> str:
    if parameter.name == "deferrable":
        return "`[operators] default_deferrable`"
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    return "–" if value is None else f"`{value!r}`"


def _type(parameter: inspect.Parameter) -> str:
    names = {"Deadline": "timedelta | datetime | str"}
    text = str(parameter.annotation).removesuffix(" | None")
    return "`" + names.get(text, text).replace("|", "\\|") + "`"


def _table(documented: type, shared: dict[str, str]) -> list[str]:
    """Return the arguments that a class declares itself; ``shared`` describes those that it does not describe."""
    described = shared | Documented.of(documented).arguments
    templates = set(getattr(documented, "template_fields", ()))
    rows = []
    for parameter in _parameters(documented):
        mark = " †" if parameter.name in templates else ""
        text = described[parameter.name].replace("|", "\\|")
        rows.append(f"| `{parameter.name}`{mark} | {_type(parameter)} | {_default(parameter)} | {text} |")
    return ["| argument | type | default | |", "|---|---|---|---|", *rows, ""] if rows else []


def _section(documented: type, module: ModuleType, shared: dict[str, str]) -> list[str]:
    known = Documented.of(documented)
    lines = [
        f"### {documented.__name__}",
        "",
        f"`from {module.__name__} import {documented.__name__}`",
        "",
        known.text,
        "",
    ]
    more = [f"Besides: {known.more}", ""] if known.more else []
    return [*lines, *_table(documented, shared), *more]


def _public(module: ModuleType, suffix: str) -> list[type]:
    """Return the classes of a module that its users import from there."""
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    names = set(getattr(module, "__all__", own))
    return [getattr(module, name) for name in sorted(names) if name.endswith(suffix) and not name.startswith("_")]


def page() -> str:
    """Return the whole page."""
    base = Documented.of(JobOperator)
    lines = [_HEAD, "## JobOperator", "", base.text, "", *_table(JobOperator, {}), f"Besides: {base.more}", ""]
    for title, module, suffix in (
        ("Operators", operators, "Operator"),
        ("Sensors", sensors, "Sensor"),
        ("Triggers", triggers, "Trigger"),
    ):
        lines += [f"## {title}", ""]
        for documented in _public(module, suffix):
            lines += _section(documented, module, base.arguments)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
