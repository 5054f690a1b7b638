"""Warm datasets as Airflow Assets: ``preheat://BUCKET/PREFIX``.

The dataset ``s3://datasets/digits/`` in the cache is the Asset ``preheat://datasets/digits``, the URI that
``preheat.fs`` reads it by. Airflow drops the trailing slash.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from airflow.sdk import Asset

_SCHEMES = ("s3", "s3a", "s3n", "preheat")


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
