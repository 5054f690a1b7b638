"""Kubernetes' own schemas, strict, as the package kubernetes-validate has them, and small ones for custom resources.

Its own `validate` takes ten times as long: it reads two megabytes of definitions again for each object.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema_rs import Draft202012Validator

from tests.chart.charts import Manifest

VERSIONS = tuple(f"1.{minor}" for minor in range(27, 37))
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}


def _strict(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def _custom(**spec: Any) -> dict[str, Any]:
    named = _strict(("name", "labels"), name={"type": "string"}, namespace={"type": "string"}, labels=_STRINGS)
    text = {"type": "string"}
    return _strict(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=text,
        kind=text,
        metadata=named,
        spec=_strict(tuple(spec), **spec),
    )


_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_KEY = _strict(("name", "key"), name=_TEXT, key=_TEXT)
_CUSTOM = {
    "Certificate": _custom(
        secretName=_TEXT,
        duration=_TEXT,
        renewBefore=_TEXT,
        usages={
            "type": "array",
            "items": {"enum": ["digital signature", "key encipherment", "server auth", "client auth"]},
        },
        issuerRef=_strict(("name",), name=_TEXT, kind=_TEXT, group=_TEXT),
        dnsNames=_TEXTS,
    ),
    "ServiceMonitor": _custom(
        selector={"type": "object"},
        namespaceSelector=_strict(("matchNames",), matchNames=_TEXTS),
        endpoints={
            "type": "array",
            "items": _strict(
                ("port", "path", "interval"),
                port=_TEXT,
                path=_TEXT,
                interval=_TEXT,
                authorization=_strict(("credentials",), credentials=_KEY),
                scheme={"enum": ["https"]},
                tlsConfig=_strict(("ca", "serverName"), ca=_strict(("secret",), secret=_KEY), serverName=_TEXT),
            ),
        },
    ),
    "PrometheusRule": _custom(
        groups={
            "type": "array",
            "items": _strict(
                ("name", "rules"),
                name=_TEXT,
                rules={
                    "type": "array",
                    "items": _strict(
                        ("alert", "expr", "labels", "annotations"),
                        alert=_TEXT,
                        expr=_TEXT,
                        **{"for": _TEXT},
                        labels=_STRINGS,
                        annotations=_STRINGS,
                    ),
                },
            ),
        }
    ),
    "ExternalSecret": {"type": "object"},  # what a user adds by extraObjects
}


def problems(item: Manifest, version: str) -> list[str]:
    """Return what a version of Kubernetes would not take of an object, nor of a field that it does not know."""
    name = f"{item['kind']}/{item['metadata']['name']}"
    if item["kind"] in _CUSTOM:
        validator = Draft202012Validator(_CUSTOM[item["kind"]])
    else:
        validator = _validator(item["apiVersion"], item["kind"], version)
    return [f"{name}: {error.instance_path}: {error.message}" for error in validator.iter_errors(item)]


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    group, _, number = api_version.rpartition("/")
    group = f"{group.partition('.')[0]}-" if group else ""
    schema = _contents(version, f"{kind.lower()}-{group}{number}.json")
    return Draft202012Validator(schema, retriever=lambda _: _contents(version, "_definitions.json"))


@cache
def _contents(version: str, name: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    return json.loads((folder / name).read_text())
