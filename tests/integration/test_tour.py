"""The tour of the docs is what happens: its commands are run, and print what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

from preheat.cli._app import app
from testbed import JuiceFSGateway
from tests.integration.tour import PAGE, Step, fill, steps_of, touring, with_steps

ELSEWHERE = {"coordinator", "worker", "token generate", "leave"}
"""What does not end by itself, what prints a secret, and what needs the engine of `up`, whose address is one."""


def test_every_output_of_the_tour_is_real(tmp_path: Path):
    with JuiceFSGateway(tmp_path / "s3") as server:
        fill(server.client())
        with touring(tmp_path, server) as tour:
            for step in steps_of(PAGE.read_text()):
                printed = tour.run(step)
                assert step.steady(printed) == step.steady(step.output), step.command


def commands(command, name: str = "") -> set[str]:
    if not hasattr(command, "commands"):
        return {name.strip()}
    shown = {each: child for each, child in command.commands.items() if not child.hidden}
    return {leaf for each, child in shown.items() for leaf in commands(child, f"{name} {each}")}


def test_every_command_is_on_the_tour():
    shown = {step.command.partition("preheat ")[2] for step in steps_of(PAGE.read_text())}
    missing = {name for name in commands(get_command(app)) if not any(line.startswith(name) for line in shown)}
    assert missing == ELSEWHERE


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("SUCCEEDED: 120 files, 480 KiB hot, in 0.07 s\n", True),
        ("SUCCEEDED: 119 files, 480 KiB hot, in 0.07 s\n", False),
        ("FAILED: 120 files, 480 KiB hot, in 0.07 s\n", False),
        ("", False),
    ],
)
def test_a_different_output_is_noticed(printed: str, same: bool):
    step = Step(command="preheat load", output="SUCCEEDED: 120 files, 480 KiB hot, in 12 s\n", loose=False)
    assert (step.steady(printed) == step.steady(step.output)) is same


def test_a_page_keeps_its_text_around_new_outputs():
    page = "One\n\n```console\n$ a\n1\n$ b \\\n  c\n```\n\n<!-- varies -->\n```console\n$ d\n```\nEnd\n"
    steps = steps_of(page)
    assert [(step.command, step.output, step.loose) for step in steps] == [
        ("a", "1\n", False),
        ("b \\\n  c", "", False),
        ("d", "", True),
    ]
    assert with_steps(page, steps) == page
