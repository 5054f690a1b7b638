"""Tasks that warm datasets, and tasks that move and drop what is warm."""

from __future__ import annotations

from airflow_preheat.operators._cached import (
    CopyOperator,
    FreeOperator,
    MoveOperator,
    PersistOperator,
    RebalanceOperator,
    ReplicateOperator,
)
from airflow_preheat.operators._fluid import FluidDataLoadOperator
from airflow_preheat.operators._load import WaitPolicy
from airflow_preheat.operators._many import PreloadManyOperator
from airflow_preheat.operators._preload import PreloadOperator

__all__ = [
    "CopyOperator",
    "FluidDataLoadOperator",
    "FreeOperator",
    "MoveOperator",
    "PersistOperator",
    "PreloadManyOperator",
    "PreloadOperator",
    "RebalanceOperator",
    "ReplicateOperator",
    "WaitPolicy",
]
