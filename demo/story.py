"""What the demo does, step by step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo import dataset
from demo.progress import JobProgress
from demo.reads import compare
from demo.report import summary
from demo.screenshots import take_screenshots
from preheat.client import Client
from testbed.airflow import USERNAME, AirflowStandalone
from testbed.airflow_client import AirflowClient
from testbed.browser import find_chromium
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import SeaweedFS

DAGS_FOLDER = Path(__file__).parent.parent / "dags"
WARM = "nightly_warmup"
TRAIN = "train_on_warm_dataset"
_RUN_SECONDS = 120.0
_DAG_START_SECONDS = 60.0


class DemoError(Exception):
    """A step of the demo failed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    directory: Path
    """Where everything is kept, logs too."""
    keep: bool
    """Leave everything up until Ctrl-C."""
    screenshots: Path | None
    """Where to put pictures of Airflow's UI."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What runs during the demo."""

    s3: SeaweedFS
    cluster: LocalCluster
    airflow: AirflowStandalone
    keys: list[str]
    """The objects in the bucket."""


def run_demo(options: Options, console: Console) -> None:
    """Start everything, warm, train, show the numbers, and stop everything.

    Raises:
        DemoError: a DAG run failed.
        Exception: whatever a part raises that does not start or answer.
    """
    if options.screenshots:
        find_chromium()  # fails now and not after a minute
    with running_parts(options.directory, console) as parts, Client(parts.cluster.url) as coordinator:
        client = parts.airflow.client()
        warm_run = warm(client, coordinator, console)
        train_run = train(client, warm_run, console)
        reads = compare(parts.keys, environment=parts.s3.environment(), coordinator=parts.cluster.url)
        jobs = coordinator.jobs().jobs
        console.print(summary(jobs=jobs, reads=reads, training=client.xcom(TRAIN, train_run, "train")))
        if options.screenshots:
            runs = {WARM: warm_run, TRAIN: train_run}
            profile = options.directory / "browser"
            take_screenshots(parts.airflow, runs, folder=options.screenshots, profile=profile)
            console.print(f"Screenshots are in {options.screenshots}.")
        if options.keep:
            wait_for_interrupt(parts, console)
        console.print("Stopping everything.")


@contextmanager
def running_parts(directory: Path, console: Console) -> Iterator[Parts]:
    """Start an S3 server with the dataset, a cluster of two workers, and Airflow; all on free ports."""
    with ExitStack() as stack:
        s3 = stack.enter_context(SeaweedFS(directory / "s3"))
        say(console, "S3 (SeaweedFS)", s3.endpoint)
        cluster = stack.enter_context(local_cluster(directory / "cluster", environment=s3.environment()))
        say(console, "coordinator", cluster.url)
        say(console, "workers", ", ".join(cluster.worker_urls))
        airflow = AirflowStandalone(
            home=directory / "airflow", dags_folder=DAGS_FOLDER, variables=cluster.airflow_variables
        )
        say(console, "Airflow (starts)", airflow.url)
        with ThreadPoolExecutor(1) as pool:
            uploading = pool.submit(dataset.upload, s3.client(), dataset.everything())
            stack.enter_context(airflow)
            keys = uploading.result()
        # Pushed last, so it comes first: a second Ctrl-C does not interrupt the stopping.
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        yield Parts(s3=s3, cluster=cluster, airflow=airflow, keys=keys)


def warm(client: AirflowClient, coordinator: Client, console: Console) -> str:
    """Run the nightly warm-up now, with a progress bar for each job, and return the run's id."""
    client.wait_for_dags(WARM, TRAIN)
    client.unpause(TRAIN)
    client.unpause(WARM)
    run_id = client.trigger(WARM)
    console.print(f"Triggered {WARM}.")
    with JobProgress(client=coordinator, console=console) as progress:
        state = client.wait_for_run(WARM, run_id, seconds=_RUN_SECONDS, on_poll=progress.update)
    require_success(client, WARM, run_id, state)
    return run_id


def train(client: AirflowClient, warm_run: str, console: Console) -> str:
    """Wait for the training that the warm-up's Asset event starts, and return its run's id."""
    run_id = client.wait_for_triggered_run(TRAIN, source=(WARM, warm_run), seconds=_DAG_START_SECONDS)
    console.print(f"The Asset event started {TRAIN}.")
    state = client.wait_for_run(TRAIN, run_id, seconds=_RUN_SECONDS)
    require_success(client, TRAIN, run_id, state)
    return run_id


def require_success(client: AirflowClient, dag_id: str, run_id: str, state: str) -> None:
    """Raise DemoError, with the log of what failed, unless a run succeeded."""
    if state != "success":
        raise DemoError(f"{dag_id} ended {state}.\n{client.failure(dag_id, run_id)}")


def wait_for_interrupt(parts: Parts, console: Console) -> None:
    """Say where everything is, and wait for Ctrl-C."""
    say(console, "Airflow", f"{parts.airflow.url}  user {USERNAME}, password {parts.airflow.password}")
    say(console, "dashboard", parts.cluster.url)
    console.print("Everything stays up until Ctrl-C.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print()


def say(console: Console, what: str, where: str) -> None:
    """Print one line of where something is."""
    console.print(f"{what:<18} {where}", highlight=False, soft_wrap=True)
