"""What Airflow is told about the provider: true, complete, and valid by Airflow's own schema."""

import json
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from typing import get_args

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_preheat._endpoint import DialectName
from airflow_preheat.assets import sanitize_uri
from airflow_preheat.get_provider_info import get_provider_info
from airflow_preheat.hooks import PreheatHook


def resolve(dotted: str) -> object:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def test_the_metadata_is_valid_by_airflows_schema():
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_an_invalid_metadata_would_be_noticed():
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    broken = get_provider_info() | {"asset-uris": [{"schemes": ["preheat"], "factory": None}]}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_every_module_and_class_in_the_metadata_exists():
    info = get_provider_info()

    for kind in ("operators", "sensors", "hooks", "triggers"):
        for module in info[kind][0]["python-modules"]:
            import_module(module)
    for name in [*info["hook-class-names"], *info["extra-links"], info["asset-uris"][0]["handler"]]:
        assert callable(resolve(name))


def test_the_connection_type_is_the_hooks():
    connection_type = get_provider_info()["connection-types"][0]

    assert resolve(connection_type["hook-class-name"]) is PreheatHook
    assert connection_type["connection-type"] == PreheatHook.conn_type
    assert connection_type["hook-name"] == PreheatHook.hook_name


def test_the_connection_form_offers_every_dialect():
    dialect = get_provider_info()["connection-types"][0]["conn-fields"]["dialect"]["schema"]

    assert tuple(dialect["enum"]) == get_args(DialectName)


def test_airflow_discovers_the_provider_with_its_connection_form_and_asset_handler():
    runtime, manager = ProvidersManagerTaskRuntime(), ProvidersManager()

    assert "airflow-provider-preheat" in manager.providers
    assert runtime.hooks["preheat"].hook_class_name == "airflow_preheat.hooks.PreheatHook"
    assert runtime.asset_uri_handlers["preheat"] is sanitize_uri
    assert manager.field_behaviours["preheat"]["relabeling"]["password"] == "Token"
    assert "airflow_preheat.links.PreheatJobLink" in manager.extra_links_class_names


def test_the_plugin_is_an_entry_point_and_registers_the_link():
    (plugin,) = entry_points(group="airflow.plugins", name="preheat")

    assert [link.name for link in plugin.load().operator_extra_links] == ["Preheat job"]
