"""What Airflow's own commands say of the provider."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.cli.cli_parser import get_parser

from airflow_preheat.get_provider_info import get_provider_info

PACKAGE = "airflow-provider-preheat"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")


def airflow(command: str) -> None:
    arguments = get_parser().parse_args(command.split())
    arguments.func(arguments)


def listed(capsys: pytest.CaptureFixture[str], command: str) -> list[dict[str, Any]]:
    """Return the rows of a command that belong to the provider."""
    capsys.readouterr()
    airflow(f"providers {command} --output json")
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return [row for row in rows if "preheat" in json.dumps(row)]


def test_airflow_lists_the_provider(capsys: pytest.CaptureFixture[str]) -> None:
    (provider,) = listed(capsys, "list")

    assert provider["package_name"] == PACKAGE
    assert provider["description"].startswith("Preload datasets into a cache")


def test_airflow_lists_the_hook_with_its_connection_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "hooks") == [
        {
            "connection_type": "preheat",
            "class": "airflow_preheat.hooks.PreheatHook",
            "conn_id_attribute_name": "preheat_conn_id",
            "package_name": PACKAGE,
            "hook_name": "Preheat",
        }
    ]
    assert listed(capsys, "behaviours") == [{"field_behaviours": "preheat"}]


def test_airflow_lists_every_field_of_the_connection_form(capsys: pytest.CaptureFixture[str]) -> None:
    fields = get_provider_info()["connection-types"][0]["conn-fields"]

    named = [row["connection_parameter_name"] for row in listed(capsys, "widgets")]

    assert named == [f"extra__preheat__{name}" for name in sorted(fields)]


def test_airflow_lists_the_link_and_the_triggers(capsys: pytest.CaptureFixture[str]) -> None:
    (modules,) = (kind["python-modules"] for kind in get_provider_info()["triggers"])

    assert [row["extra_link_class_name"] for row in listed(capsys, "links")] == get_provider_info()["extra-links"]
    assert {row["class"] for row in listed(capsys, "triggers")} == set(modules)


async def test_airflow_tests_the_connection_to_a_coordinator(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", url.replace("http://", "preheat://"))

    await asyncio.to_thread(airflow, "connections test preheat_default")

    assert "Connection success!" in capsys.readouterr().out


def test_airflow_says_what_is_wrong_with_a_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", "preheat://user:ph_secret@")

    with pytest.raises(SystemExit, match="1"):
        airflow("connections test preheat_default")

    said = capsys.readouterr().out
    assert "it has no host. Write for example 127.0.0.1, port 19999." in said
    assert "ph_secret" not in said
