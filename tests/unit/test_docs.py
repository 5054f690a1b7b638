"""What README and docs say is run: code blocks execute, commands and links exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from preheat.api._schemas import Submit
from preheat.cli._app import app
from preheat.versions import DatasetVersion

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_dataset_version_page_runs_and_its_vectors_hold():
    page = (ROOT / "docs/explanation/dataset-version.md").read_text()
    names: dict[str, object] = {}
    exec(blocks(page, "python")[0], names)
    version = names["dataset_version"]
    assert callable(version)
    vectors = re.findall(r"\| (empty|`\(.*?) \| `(sha256:[0-9a-f]{64})` \|", page)
    assert len(vectors) == 3
    for listing, expected in vectors:
        objects = [] if listing == "empty" else [eval(part) for part in re.findall(r"\([^)]*\)", listing)]
        assert version(objects) == expected
    assert version([]) == str(DatasetVersion())


def test_the_readme_dag_imports_as_airflow_imports_it(tmp_path: Path):
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "readme.py").write_text(blocks(README, "python")[0])
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    (task,) = bag.dags["warm_images"].tasks
    assert [outlet.uri for outlet in task.outlets] == ["preheat://datasets/images"]


def test_the_submit_of_the_rest_page_is_one_that_the_api_takes():
    page = (ROOT / "docs/reference/rest-api.md").read_text()
    (example,) = [json.loads(block) for block in blocks(page, "json") if '"paths"' in block]
    assert set(Submit.model_validate(example).model_dump(by_alias=True)["options"]) == set(example["options"])


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page.read_text(), "bash") for line in block.splitlines()]
    return sorted({line.partition("  #")[0].strip() for line in lines if line.startswith("preheat ")})


@pytest.mark.parametrize("line", commands())
def test_commands_in_the_docs_parse(line: str):
    """Every command, sub-command and option that the docs show exists, and takes what they give it."""
    arguments = shlex.split(line)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context("preheat", arguments)


def test_make_targets_in_the_docs_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {name for page in PAGES for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert shown <= targets, shown - targets
