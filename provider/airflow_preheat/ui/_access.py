"""Who may see a page: Airflow's own session and permissions."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_connection, requires_access_dag
from airflow.models.connection import Connection
from airflow.utils.session import create_session
from fastapi import Depends
from sqlalchemy import select

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat.hooks import PreheatHook

MAY_READ_CONNECTION = Depends(requires_access_connection("GET"))
"""A cache shows the paths of everybody's jobs: for those who may read its connection (the path's ``connection_id``)."""
MAY_READ_TASK = (
    Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
    Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
)
"""A task's job is for those who may see its DAG's tasks and XComs (the path's ``dag_id``): its log says the same."""


def readable_connections(user: GetUserDep) -> list[str]:
    """Return the connections of the type ``preheat`` that the user may read.

    Airflow's database lists its own. Those of environment variables and secrets backends cannot be listed: of them
    there is only the default one, which need not exist.
    """
    with create_session() as session:
        found = session.scalars(select(Connection.conn_id).where(Connection.conn_type == PreheatHook.conn_type))
        conn_ids = sorted({*found, DEFAULT_CONN_ID}, key=lambda conn_id: (conn_id != DEFAULT_CONN_ID, conn_id))
    manager = get_auth_manager()
    return [
        conn_id
        for conn_id in conn_ids
        if manager.is_authorized_connection(method="GET", details=ConnectionDetails(conn_id=conn_id), user=user)
    ]


ReadableConnections = Annotated[list[str], Depends(readable_connections)]
