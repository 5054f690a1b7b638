"""Airflow operators and triggers that preload datasets into a cache.

Nothing is imported here: DAG files import ``airflow_preheat.operators`` and ``airflow_preheat.assets``.
"""

__version__ = "0.1.0"
