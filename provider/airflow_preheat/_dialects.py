"""Which dialect a coordinator speaks."""

from __future__ import annotations

from airflow_preheat._dialects_alluxio import AlluxioJobs, AlluxioLoads
from airflow_preheat._dialects_base import Dialect, Talk
from airflow_preheat._dialects_preheat import PreheatDialect
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import PreheatRequestError

__all__ = ["Dialect", "Talk", "choose"]


def choose(endpoint: Endpoint) -> Talk[Dialect]:
    """Return the dialect that the connection names; with ``auto``, the first one that the coordinator speaks.

    Raises:
        PreheatRequestError: it speaks none.
    """
    dialects: list[Dialect] = [PreheatDialect(endpoint), AlluxioLoads(endpoint), AlluxioJobs(endpoint)]
    for dialect in dialects:
        if endpoint.dialect == dialect.name:
            return dialect
        if endpoint.dialect == "auto" and (yield from dialect.check()):
            return dialect
    raise PreheatRequestError(
        f"What answers at {endpoint.url} is neither a Preheat coordinator nor an Alluxio of a version that is known. "
        f"Does the Airflow connection {endpoint.conn_id!r} lead to a Preheat coordinator? If it is an Alluxio, say "
        "which by the connection's dialect."
    )
