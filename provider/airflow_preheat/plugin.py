"""What the provider adds to Airflow's UI."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_preheat.links import PreheatJobLink


class PreheatPlugin(AirflowPlugin):
    """Registers the link to the job.

    Airflow finds it by an entry point and not through the provider's metadata, whose ``plugins`` it ignores
    while providers are discovered lazily (its default).
    """

    name = "preheat"
    operator_extra_links = [PreheatJobLink()]  # noqa: RUF012 - as the base class declares it
