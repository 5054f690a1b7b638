"""Warms every dataset of a list before the working day.

The list is `datasets.yaml`, or the file that `PREHEAT_DATASETS` names. A task that succeeds updates its
dataset's Asset, `preheat://BUCKET/PREFIX`, and with it starts the DAGs that are scheduled on that Asset.

What is not warm at 06:00 is stopped, and its task fails. As soon as that is foreseen, an alarm tells of it, while
there is still time to give the job more bandwidth (`preheat job set`).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pendulum
import yaml
from airflow.sdk import DAG, CronTriggerTimetable

from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import PreloadOperator

log = logging.getLogger(__name__)
DATASETS_FILE = Path(os.environ.get("PREHEAT_DATASETS") or Path(__file__).with_name("datasets.yaml"))


def load_datasets(path: Path) -> list[dict[str, Any]]:
    """Return the datasets of a YAML file: each has a name, a path, and other arguments of PreloadOperator."""
    datasets: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return datasets


def alarm(context: Any) -> None:
    """Tell that a dataset will be late; in its place, any notifier does: `SmtpNotifier(to="data@example.com")`."""
    log.error("ALARM: %s will not be warm at 06:00", context["ti"].task_id)


def preload(*, name: str, path: str, **options: Any) -> PreloadOperator:
    """Return the task that warms one dataset and says so with its Asset."""
    return PreloadOperator(task_id=f"warm_{name}", path=path, outlets=[warm_asset(path)], **options)


# No start_date: with one in the past, switching the DAG on would run last night's slot at once.
with DAG(
    dag_id="nightly_warmup",
    # Not between 02:00 and 03:00, the hour that summer time skips in March and repeats in October.
    schedule=CronTriggerTimetable("30 1 * * *", timezone="Europe/Berlin"),
    catchup=False,
    max_active_runs=1,
    # A retry is cheap: it skips what is cached already.
    default_args={
        "retries": 3,
        "retry_delay": pendulum.duration(seconds=30),
        "retry_exponential_backoff": True,
        "deadline": "06:00 Europe/Berlin",
        "on_late_callback": alarm,
    },
    doc_md=__doc__,
    tags=["preheat"],
):
    for dataset in load_datasets(DATASETS_FILE):
        preload(**dataset)
