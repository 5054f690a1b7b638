"""The chart as real Helm binaries render it."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "preheat"
HELMS = ("helm3", "helm4")
CASES = tuple(sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml")))
NAMESPACE = "ml"
_SECONDS = 60

Manifest = dict[str, Any]


@cache
def binary(name: str) -> Path:
    """Return a Helm binary of `scripts/helm.sh`, which fetches it the first time."""
    subprocess.run(["bash", ROOT / "scripts/helm.sh"], check=True, timeout=300)
    return ROOT / ".helm" / name


def helm(name: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Helm; its output is text."""
    command = [str(part) for part in (binary(name), *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert not check or not done.returncode, done.stderr
    return done


def values_file(case: str) -> Path:
    """Return an entry of the matrix."""
    return CHART / "ci" / f"{case}-values.yaml"


@cache
def rendered_text(case: str, name: str = "helm4") -> str:
    """Return what Helm renders for an entry of the matrix."""
    return helm(name, "template", "preheat", CHART, "--namespace", NAMESPACE, "--values", values_file(case)).stdout


def rendered(case: str, name: str = "helm4") -> list[Manifest]:
    """Return the objects of an entry of the matrix, for the caller to do with as he likes."""
    return list(map(json.loads, objects(case, name)))


@cache
def objects(case: str, name: str = "helm4") -> tuple[str, ...]:
    """Return the objects of an entry of the matrix as JSON, which is the same for the same objects."""
    return tuple(json.dumps(item, sort_keys=True) for item in load_all(rendered_text(case, name)))


def load_all(text: str) -> list[Manifest]:
    """Read YAML; PyYAML's loader in Python takes ten times as long."""
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def one(items: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the object of this kind and name; there must be exactly one."""
    (found,) = (item for item in items if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def pod_spec(item: Manifest) -> Manifest | None:
    """Return the pod of an object that has one."""
    if item["kind"] == "Pod":
        return dict(item["spec"])
    return item["spec"]["template"]["spec"] if item["kind"] in {"Deployment", "StatefulSet"} else None


def pods(items: list[Manifest]) -> list[Manifest]:
    """Return all pods."""
    return [spec for item in items if (spec := pod_spec(item))]


def containers(items: list[Manifest]) -> list[Manifest]:
    """Return the containers of all pods."""
    return [container for spec in pods(items) for container in spec["containers"]]


def problem_of(*settings: str, name: str = "helm4") -> str:
    """Return what Helm says of values that it refuses, each `path=value` with the value as JSON."""
    options = [part for setting in settings for part in ("--set-json", setting)]
    done = helm(name, "template", "preheat", CHART, *options, check=False)
    assert done.returncode, f"{settings} should have been refused"
    return done.stderr
