"""What must hold in every environment that the provider is installed in: ``python -P tests/e2e/compat_checks.py``.

Prints the version of Airflow. It runs without the rest of the tests, which these environments cannot import.
"""

from __future__ import annotations

import json
import pkgutil
from importlib import import_module
from importlib.resources import files

import airflow
import airflow_preheat
import jsonschema
from airflow_preheat.get_provider_info import get_provider_info


def main() -> None:
    """Import every module, and compare the provider's metadata with the schema of this Airflow."""
    for module in pkgutil.walk_packages(airflow_preheat.__path__, "airflow_preheat."):
        import_module(module.name)
    schema = json.loads((files(airflow) / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    print(airflow.__version__)  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
