"""Warm datasets as Airflow Assets: ``preheat://BUCKET/PREFIX``.

The dataset ``s3://datasets/digits/`` in the cache is the Asset ``preheat://datasets/digits``, the URI that
``preheat.fs`` reads it by. Airflow drops the trailing slash.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, urlsplit

from airflow.sdk import Asset

from airflow_preheat.exceptions import PreheatRequestError

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)
VERSION = "{version}"
"""What stands for the dataset version in a partition's key."""
_SCHEMES = ("s3", "s3a", "s3n", "preheat")
_STATE_KEY = "preheat_partitions"
_KEPT = 100
"""Partitions of an Asset that are remembered, in about 20 KB."""


def warm_asset(path: str, *, name: str | None = None) -> Asset:
    """Return the Asset that stands for a dataset in the cache.

    Args:
        path: what a :class:`~airflow_preheat.operators.PreloadOperator` loads, e.g. ``s3://datasets/digits/``.
        name: the Asset's name; its URI by default.

    Raises:
        ValueError: the path is not one that has an Asset.
    """
    scheme, separator, rest = path.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"path={path!r} has no Asset. Write s3://BUCKET/PREFIX.")
    uri = f"preheat://{rest.rstrip('/')}"
    return Asset(uri=uri) if name is None else Asset(name=name, uri=uri)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``preheat`` URI on behalf of Airflow.

    Raises:
        ValueError: it names no bucket, or has a query, which no dataset has.
    """
    if not uri.netloc:
        raise ValueError(f"Asset URI {uri.geturl()!r} names no bucket. Write preheat://BUCKET/PREFIX.")
    if uri.query:
        raise ValueError(f"Asset URI {uri.geturl()!r} has a query. Write preheat://BUCKET/PREFIX.")
    return uri


def to_openlineage(asset: Asset, lineage_context: object) -> Dataset:  # noqa: ARG001 - as Airflow calls it
    """Return an Asset as the dataset that OpenLineage events name: ``preheat://BUCKET`` and ``PREFIX``."""
    from airflow.providers.common.compat.openlineage.facet import Dataset  # noqa: PLC0415 - heavy, and not always there

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"preheat://{uri.netloc}", name=uri.path.strip("/") or "/")


def partition_key(partition: str, version: str | None) -> str:
    """Return the key of a partition, ``{version}`` being the dataset version.

    Raises:
        PreheatRequestError: there is none.
    """
    if VERSION not in partition:
        return partition
    if version is None:
        raise PreheatRequestError(
            f"partition={partition!r} needs a dataset version, and there is none: an Alluxio has none, and a job that "
            "goes on none until all is listed. Name the partition otherwise, e.g. by the region."
        )
    return partition.replace(VERSION, version)


def describe_outlets(
    context: Context, outlets: Sequence[Any], extra: Mapping[str, Any], partition: str | None = None
) -> list[Any]:
    """Let the events of a task's outlets say what is warm now, and return the outlets that have news.

    Without a partition, all have. A partition that is named for the dataset version is news once: a task that warms
    the same version again has no event then, so that what is scheduled on the Asset runs once for each version.
    Airflow before 3.3 knows no such partitions: there, events have none, and every one is news.

    Args:
        context: the task's.
        outlets: the task's.
        extra: what the events carry.
        partition: as in :func:`partition_key`; a task that is run again by a user is news again.

    Raises:
        PreheatRequestError: as :func:`partition_key`.
    """
    key = partition_key(partition, extra.get("dataset_version")) if partition else None
    return [outlet for outlet in outlets if not isinstance(outlet, Asset) or _describe(context, outlet, extra, key)]


def _describe(context: Context, asset: Asset, extra: Mapping[str, Any], key: str | None) -> bool:
    event = cast("Any", context["outlet_events"])[asset]
    event.extra = dict(extra)
    if not key:
        return True
    if not hasattr(event, "add_partitions"):
        log.warning("This Airflow has no partitions at run time: the event of %s is without %s.", asset.uri, key)
        return True
    event.add_partitions(key)
    version = extra.get("dataset_version")
    return not (version and version in key) or _is_news(context, asset, key)


def _is_news(context: Context, asset: Asset, key: str) -> bool:
    """Remember which task announces a partition, and return whether that is this one, be it in its next try."""
    task_instance = context["ti"]
    announcer = [task_instance.dag_id, task_instance.run_id, task_instance.task_id, task_instance.map_index]
    store = cast("dict[str, Any]", context)["asset_state_store"][asset]
    announced: dict[str, list[Any]] = store.get(_STATE_KEY, {})
    earlier = announced.get(key, announcer)
    if earlier != announcer and _has_succeeded(*earlier):
        log.info("%s has been %s since the run %s of %s: no event.", asset.uri, key, earlier[1], earlier[0])
        return False
    store.set(_STATE_KEY, dict(list({**announced, key: announcer}.items())[-_KEPT:]))
    return True


def _has_succeeded(dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
    """Ask Airflow, lest a task that died before its event was recorded keeps all others from it."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - heavy

    states = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index
    )
    return all(state == "success" for state in states.get(run_id, {}).values())  # true of a run that was deleted
