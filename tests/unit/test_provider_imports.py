"""What Airflow pays for the provider: DAG files are parsed again and again, and every process loads the plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DAGS = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))
HEAVY = {
    *("aiohttp", "boto3", "botocore", "fastapi", "fsspec", "httpx", "kubernetes", "numpy", "openlineage", "pandas"),
    *("preheat", "requests", "sklearn", "torch", "airflow_preheat.hooks", "airflow_preheat.async_hooks"),
}
MEASURE = """
import json, runpy, sys, time
import airflow.plugins_manager, airflow.sdk, airflow.triggers.base
for name in airflow.sdk.__all__:
    hasattr(airflow.sdk, name)  # loads what it is in; Airflow 3.3.2 does not find its own `lineage`

def cost(action):
    before, start = set(sys.modules), time.process_time()
    action()
    return {"modules": sorted(set(sys.modules) - before), "ms": 1000 * (time.process_time() - start)}

sys.path.insert(0, sys.argv[1])
found = {"airflow_preheat.plugin": cost(lambda: __import__("airflow_preheat.plugin"))}
for path in sys.argv[2:]:
    found[path.rpartition("/")[2]] = cost(lambda: runpy.run_path(path))
found["triggers"] = cost(lambda: __import__("airflow_preheat.triggers"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, Any]]:
    """What each import loaded, and the processor time it took, in one process after bare Airflow."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(DAGS[0].parent), *map(str, DAGS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_dag_file_loads_nothing_heavy(costs: dict[str, dict[str, Any]]) -> None:
    loaded = {name: HEAVY & set(cost["modules"]) for name, cost in costs.items()}

    assert {name: modules for name, modules in loaded.items() if modules} == {}
    assert any("airflow_preheat.operators" in cost["modules"] for cost in costs.values())


def test_all_dag_files_together_take_less_than_one_may(costs: dict[str, dict[str, Any]]) -> None:
    for name, cost in costs.items():
        sys.stdout.write(f"{name}: {cost['ms']:.0f} ms, {len(cost['modules'])} modules\n")

    assert sum(cost["ms"] for cost in costs.values()) < 300 * len(costs)


def test_the_plugin_loads_nothing_but_itself(costs: dict[str, dict[str, Any]]) -> None:
    assert costs["airflow_preheat.plugin"]["modules"] == [
        "airflow_preheat",
        "airflow_preheat.links",
        "airflow_preheat.plugin",
        "airflow_preheat.ui",
        "airflow_preheat.ui._lazy",
    ]
