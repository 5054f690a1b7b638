"""What to load and how, as the author of a DAG writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypedDict

from airflow_preheat.exceptions import PreheatRequestError
from airflow_preheat.jobs import JobOptions, JobSpec, as_bool, as_fraction, as_int


class WaitPolicy(TypedDict, total=False):
    """What is warm enough; with several keys, all must hold."""

    min_hot_fraction: float | str | None
    """The share of the files, 0 to 1, that must be hot."""
    max_failed_files: int | str | None
    """How many files may fail."""
    first: int | str | None
    """How many files have to be hot from the start of the order on: then the task succeeds, and the job goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One load; any value may come from a template, and so be a text."""

    path: str | Sequence[str] | None = None
    index: str | None = None
    replicas: int | str = 1
    verify: bool | str = True
    skip_if_exists: bool | str = True
    bandwidth: int | str | None = None
    wait_policy: WaitPolicy | Literal["fully_hot"] = "fully_hot"
    file_filter_regex: str | None = None
    batch_size: int | str | None = None
    priority: str | None = None

    @classmethod
    def of(cls, dataset: str | Mapping[str, Any], defaults: Mapping[str, Any]) -> Self:
        """Return the load of a dataset: a path, or fields of this class in the place of the defaults.

        Raises:
            PreheatRequestError: it is neither.
        """
        given = {"path": dataset} if isinstance(dataset, str) else dataset
        known = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or not given.keys() <= set(known):
            raise PreheatRequestError(
                f"dataset={dataset!r} is not known. Write a path, or a mapping with path or index and any of "
                f"{', '.join(known[2:])}."
            )
        return cls(**{**defaults, **given})

    @property
    def name(self) -> str:
        """What people call it."""
        return self.index or (self.path if isinstance(self.path, str) else ", ".join(self.path or ()))

    @property
    def first(self) -> int | None:
        """How many files have to be hot from the start of the order on; ``None`` waits for the load's end.

        Raises:
            PreheatRequestError: it is not a number from 1 on.
        """
        policy = self.wait_policy
        first = as_int("first", policy.get("first")) if isinstance(policy, Mapping) else None
        if first is not None and first < 1:
            raise PreheatRequestError(f"first={first} is not a number of files from 1 on.")
        return first

    def options(self) -> JobOptions:
        """Return how to load, by the names in the API.

        Raises:
            PreheatRequestError: one of the values cannot be used.
        """
        return {
            "batchSize": as_int("batch_size", self.batch_size),
            "fileFilterRegex": self.file_filter_regex or None,
            "priority": self.priority or None,
            "replicas": as_int("replicas", self.replicas),
            "verify": as_bool("verify", self.verify),
            "skipIfExists": as_bool("skip_if_exists", self.skip_if_exists),
            "bandwidth": self.bandwidth or None,
            **_criterion(self.wait_policy),
        }

    def spec(self) -> JobSpec:
        """Return what to submit.

        Raises:
            PreheatRequestError: one of the values cannot be used.
        """
        if bool(self.path) is bool(self.index):
            raise PreheatRequestError(f"path={self.path!r} and index={self.index!r}: give one of them.")
        paths = [self.path] if isinstance(self.path, str) else list(self.path or ())
        return JobSpec(type="load", paths=paths, index=self.index or None, options=self.options())


def _criterion(policy: WaitPolicy | str) -> JobOptions:
    """Return a wait policy as the options of the API.

    Raises:
        PreheatRequestError: it is none.
    """
    if policy == "fully_hot":
        return {}
    known = WaitPolicy.__annotations__
    if not isinstance(policy, Mapping) or not known.keys() >= policy.keys():
        raise PreheatRequestError(
            f"wait_policy={policy!r} is not known. Write fully_hot, or a mapping with {', '.join(known)}."
        )
    return {
        "minHotFraction": as_fraction("min_hot_fraction", policy.get("min_hot_fraction")),
        "maxFailedFiles": as_int("max_failed_files", policy.get("max_failed_files")),
    }
