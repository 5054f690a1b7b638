"""What people see in Airflow's UI, in a real browser: the connection form, the page of the caches, the tab of a task.

With ``UI_SCREENSHOTS=DIR`` the pictures of the docs are written there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from demo import dataset
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import poll
from testbed.browser import Browser
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's package chromium"),
]
SECONDS = 180.0
DAG = "warm_images"
FRAME = "document.querySelector('iframe')?.contentDocument"
DIALOG = "document.querySelector('[role=dialog]')"
DAG_FILE = f"""
from airflow.sdk import DAG
from airflow_preheat.operators import PreloadOperator

with DAG("{DAG}", schedule=None):
    digits = PreloadOperator(task_id="digits", path="s3://datasets/digits/", deferrable=True)
    images = PreloadOperator(
        task_id="images", path="s3://{dataset.BUCKET}/images/", deferrable=True, bandwidth="8KiB", batch_size=1
    )
    digits >> images
"""


@pytest.fixture(scope="module")
def airflow(
    origin: SeaweedFS, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStandalone]:
    s3 = origin.client()
    for number in range(200):  # at the tasks' bandwidth, a quarter of an hour
        s3.put_object(Bucket=dataset.BUCKET, Key=f"images/{number}", Body=bytes(64 * 2**10))
    dags = tmp_path_factory.mktemp("dags")
    (dags / "warm_images.py").write_text(DAG_FILE)
    home = tmp_path_factory.mktemp("airflow")
    with AirflowStandalone(home=home, dags_folder=dags, variables=cluster.airflow_variables) as standalone:
        yield standalone


@pytest.fixture(scope="module")
def run_id(airflow: AirflowStandalone) -> str:
    """A run of which one task has ended, and the other one waits for a job that takes minutes."""
    client = airflow.client()
    client.wait_for_dags(DAG)
    client.unpause(DAG)
    run_id = client.trigger(DAG)
    expected = {"digits": "success", "images": "deferred"}
    poll(
        lambda: expected == {task["task_id"]: task["state"] for task in client.task_instances(DAG, run_id)},
        seconds=2 * SECONDS,
        what=f"the tasks to be {expected}",
    )
    return run_id


@pytest.fixture
def browser(airflow: AirflowStandalone, tmp_path: Path) -> Iterator[Browser]:
    with Browser(profile=tmp_path / "profile", width=1280, height=800) as browser:
        browser.set_cookie(name="_token", value=airflow.client().token, url=airflow.url)
        yield browser


@pytest.fixture
def picture(browser: Browser) -> Callable[[str], None]:
    """Write a picture, if somebody wants it."""

    def write(name: str) -> None:
        if folder := os.environ.get("UI_SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"{name}.png")

    return write


def test_the_caches_page_shows_jobs_datasets_and_workers_as_they_are(
    airflow: AirflowStandalone, run_id: str, browser: Browser, picture: Callable[[str], None]
) -> None:
    browser.goto(f"{airflow.url}/plugin/preheat-caches")

    text = f"{FRAME}?.body?.innerText"
    browser.wait_for(f"{text}?.includes('s3://datasets/digits/') && {text}?.includes('SUCCEEDED')", seconds=SECONDS)
    browser.wait_for(f"{text}?.includes('Workers live\\n2 of 2')", seconds=SECONDS)
    browser.wait_for(f"{text}?.match(/images.*RUNNING/s)", seconds=SECONDS)
    browser.wait_for(f"{text}?.match(/digits.*\\t100.0 %\\t1,797/)", seconds=SECONDS)
    browser.wait_for(f"{FRAME}?.querySelectorAll('[data-loaded]').length === 2", seconds=SECONDS)
    before = browser.evaluate(f"{FRAME}.querySelector('main').innerText")
    browser.wait_for(f"{FRAME}.querySelector('main').innerText !== {json.dumps(before)}", seconds=SECONDS)
    picture("airflow-caches")


def test_the_page_follows_airflows_own_theme(airflow: AirflowStandalone, browser: Browser) -> None:
    browser.set_local_storage({"theme": "dark"})
    browser.goto(f"{airflow.url}/plugin/preheat-caches")

    browser.wait_for(f"{FRAME}?.documentElement?.dataset.theme === 'dark'", seconds=SECONDS)


def test_the_menu_leads_to_the_caches(airflow: AirflowStandalone, browser: Browser) -> None:
    browser.goto(airflow.url)
    browser.wait_for(f"{button('Browse')}", seconds=SECONDS)
    browser.evaluate(f"{button('Browse')}.click()")
    caches = "[...document.querySelectorAll('[role=menuitem]')].find(e => e.textContent === 'Caches')"
    browser.wait_for(caches)
    browser.evaluate(f"({caches}.querySelector('a') ?? {caches}).click()")

    browser.wait_for("location.pathname.startsWith('/plugin/preheat-caches')", seconds=SECONDS)


def test_the_tab_of_a_task_shows_its_job_while_it_runs(
    airflow: AirflowStandalone, run_id: str, browser: Browser, picture: Callable[[str], None]
) -> None:
    browser.goto(f"{airflow.url}/dags/{DAG}/runs/{quote(run_id)}/tasks/images/plugin/preheat-job")

    browser.wait_for(f"{FRAME}?.querySelector('progress')?.value > 0.05", seconds=SECONDS)
    text = browser.evaluate(f"{FRAME}.body.innerText")
    assert "s3://datasets/images/" in text
    assert "RUNNING" in text
    shown = browser.evaluate(f"{FRAME}.querySelector('progress').value")
    browser.wait_for(f"{FRAME}.querySelector('progress').value > {shown}", seconds=SECONDS)
    picture("airflow-task-tab")


def test_the_connection_form_has_a_field_for_all_that_a_connection_takes(
    airflow: AirflowStandalone, browser: Browser, picture: Callable[[str], None]
) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=1000, deviceScaleFactor=1, mobile=False)
    browser.goto(f"{airflow.url}/connections")
    browser.wait_for(button("Add Connection"), seconds=SECONDS)
    browser.evaluate(f"{button('Add Connection')}.click()")
    browser.wait_for(f"{DIALOG}?.querySelector('[role=combobox]')")
    browser.evaluate(f"{DIALOG}.querySelector('[role=combobox]').focus()")
    browser.call("Input.insertText", text="Preheat")
    browser.wait_for("document.querySelectorAll('[role=option]').length === 1")
    for event in ("rawKeyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=event, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    labels = f"[...{DIALOG}.querySelectorAll('label')].map(label => label.textContent.trim()).filter(Boolean)"
    browser.wait_for(f"{labels}.includes('Token')")
    assert browser.evaluate(labels)[2:] == [
        *("Description", "Coordinator host", "Token", "Port", "Scheme"),
        *("Coordinator URL", "Dialect", "Verify the TLS certificate", "CA certificate"),
        *("Connect timeout", "Request timeout"),
    ]
    assert browser.evaluate(f"{DIALOG}.querySelector('input[name=password]').type") == "password"
    click(browser, button("Standard Fields"))
    click(browser, button("Extra Fields"))
    browser.wait_for(f"{button('Extra Fields')}.getAttribute('aria-expanded') === 'true'", seconds=SECONDS)
    browser.wait_until_still(f"{button('Extra Fields JSON')}.getBoundingClientRect().top")
    picture("airflow-connection")


def test_the_pages_want_a_login_on_the_whole_airflow_too(airflow: AirflowStandalone) -> None:
    for path in ("caches", "connections/preheat_default/overview", f"dags/{DAG}/runs/r/tasks/images/-1/job"):
        answer = requests.get(f"{airflow.url}/preheat/{path}", timeout=SECONDS, allow_redirects=False)
        assert answer.status_code == 401


def click(browser: Browser, element: str) -> None:
    """Press the mouse where an element is, once it does not move any more."""
    browser.wait_until_still(f"{element}.getBoundingClientRect().top")
    box = browser.evaluate(f"{element}.getBoundingClientRect().toJSON()")
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
    for event in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=event, **place)


def button(text: str) -> str:
    return f"[...document.querySelectorAll('button')].find(e => e.textContent.trim() === {json.dumps(text)})"
