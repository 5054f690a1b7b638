"""What Airflow learns about this distribution without importing the rest of it."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Preheat"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-preheat",
        "name": "Preheat",
        "description": "Preload datasets into a cache near the compute, and prove that they are warm.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["software"]}],
        "operators": [_modules("operators")],
        "hooks": [_modules("hooks")],
        "sensors": [_modules("sensors")],
        "triggers": [
            _modules("triggers", "sensor_triggers", "many_trigger", "fluid_trigger", "dataset_trigger", "drift_trigger")
        ],
        "hook-class-names": ["airflow_preheat.hooks.PreheatHook"],
        "connection-types": [_connection_type()],
        "extra-links": ["airflow_preheat.links.PreheatJobLink"],
        "asset-uris": [
            {
                "schemes": ["preheat"],
                "handler": "airflow_preheat.assets.sanitize_uri",
                "to_openlineage_converter": "airflow_preheat.assets.to_openlineage",
            }
        ],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": _INTEGRATION, "python-modules": [f"airflow_preheat.{name}" for name in names]}


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "preheat",
        "hook-class-name": "airflow_preheat.hooks.PreheatHook",
        "hook-name": "Preheat",
        "ui-field-behaviour": {
            "hidden-fields": ["login"],
            "relabeling": {"host": "Coordinator host", "password": "Token", "schema": "Scheme"},
            "placeholders": {"host": "127.0.0.1", "port": "19999", "schema": "http"},
        },
        "conn-fields": _connection_fields(),
    }


def _connection_fields() -> dict[str, Any]:
    return {
        "url": {
            "label": "Coordinator URL",
            "description": "Instead of scheme, host and port, e.g. https://preheat.example.com",
            "schema": {"type": ["string", "null"]},
        },
        "dialect": {
            "label": "Dialect",
            "description": "Whose API the coordinator speaks; auto asks it",
            "schema": {
                "type": ["string", "null"],
                "default": "auto",
                "enum": ["auto", "preheat", "alluxio-3.3", "alluxio-3.6"],
            },
        },
        "verify_tls": {
            "label": "Verify the TLS certificate",
            "schema": {"type": ["boolean", "null"], "default": True},
        },
        "ca_cert": {
            "label": "CA certificate",
            "description": "Path of a PEM file, on the workers and on the triggerers",
            "schema": {"type": ["string", "null"]},
        },
        "connect_timeout": {
            "label": "Connect timeout",
            "description": "Seconds until a connection must stand",
            "schema": {"type": ["number", "null"], "default": 5, "minimum": 0.1},
        },
        "request_timeout": {
            "label": "Request timeout",
            "description": "Seconds until a request must be answered",
            "schema": {"type": ["number", "null"], "default": 60, "minimum": 0.1},
        },
    }
