"""The methods by which OpenLineage asks an operator; what they answer is in :mod:`airflow_preheat.openlineage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_preheat.operators._job import JobOperator


class LineageMixin:
    """Tells what a task's job read and wrote, if the provider of OpenLineage is installed: it alone asks."""

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any]:  # noqa: ARG002 - as it calls
        """Return what went where."""
        from airflow_preheat.openlineage import lineage_of  # noqa: PLC0415 - heavy, and not always there

        return lineage_of(cast("JobOperator", self), succeeded=True)

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any]:  # noqa: ARG002 - as it calls
        """Return what was to go where, and how far the job got."""
        from airflow_preheat.openlineage import lineage_of  # noqa: PLC0415 - heavy, and not always there

        return lineage_of(cast("JobOperator", self), succeeded=False)
