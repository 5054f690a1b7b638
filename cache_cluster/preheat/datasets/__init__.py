"""Datasets that are declared once and kept loaded: what can be declared, and what is to be done next. Pure."""

from preheat.datasets._decisions import (
    Change,
    Decision,
    Forget,
    Idle,
    Seen,
    SetRule,
    SetTtl,
    Submit,
    TakeLook,
    decide,
    next_load,
)
from preheat.datasets._declaration import Dataset, Preload, Rewarm, below, check_name, parse_freshness
from preheat.datasets._outcomes import failed, looked
from preheat.datasets._progress import heat_of, progress_of
from preheat.datasets._schedule import deadline_after, next_time
from preheat.datasets._state import (
    Cause,
    Condition,
    ConditionType,
    Cycle,
    Loaded,
    Look,
    Owner,
    Phase,
    Record,
    Run,
    declared,
)

__all__ = [
    "Cause",
    "Change",
    "Condition",
    "ConditionType",
    "Cycle",
    "Dataset",
    "Decision",
    "Forget",
    "Idle",
    "Loaded",
    "Look",
    "Owner",
    "Phase",
    "Preload",
    "Record",
    "Rewarm",
    "Run",
    "Seen",
    "SetRule",
    "SetTtl",
    "Submit",
    "TakeLook",
    "below",
    "check_name",
    "deadline_after",
    "decide",
    "declared",
    "failed",
    "heat_of",
    "looked",
    "next_load",
    "next_time",
    "parse_freshness",
    "progress_of",
]
