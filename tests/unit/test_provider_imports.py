"""What Airflow pays for the provider: DAG files are parsed again and again, and every process loads the plugin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DAGS = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))
HEAVY = {
    *("aiohttp", "boto3", "botocore", "fastapi", "fsspec", "httpx", "kubernetes", "numpy", "openlineage", "pandas"),
    *("preheat", "requests", "sklearn", "torch", "airflow_preheat.async_hooks"),
}
MEASURE = """
import json, runpy, sys, time
import airflow.plugins_manager, airflow.sdk, airflow.triggers.base, airflow_preheat
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


def test_dag_files_load_nothing_heavy_that_they_do_not_import_themselves(costs: dict[str, dict[str, Any]]) -> None:
    loaded = {name: HEAVY & set(cost["modules"]) for name, cost in costs.items()}
    named = {path.name: set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)) for path in DAGS}

    assert {name: heavy for name in loaded if (heavy := loaded[name] - named.get(name, set()))} == {}
    assert any("airflow_preheat.operators" in cost["modules"] for cost in costs.values())


def test_what_each_import_takes_is_told(costs: dict[str, dict[str, Any]]) -> None:
    """On an idle machine all DAG files together stay below 300 ms, which a busy one may multiply."""
    for name, cost in costs.items():
        sys.stdout.write(f"{name}: {cost['ms']:.0f} ms, {len(cost['modules'])} modules\n")

    assert sum(cost["ms"] for cost in costs.values()) < 300 * len(costs)


def test_the_plugin_loads_nothing_but_itself(costs: dict[str, dict[str, Any]]) -> None:
    assert costs["airflow_preheat.plugin"]["modules"] == [
        "airflow_preheat.links",
        "airflow_preheat.plugin",
        "airflow_preheat.ui",
        "airflow_preheat.ui._lazy",
    ]
