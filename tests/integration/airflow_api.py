"""The part of Airflow's API server that serves the provider's pages: real logins and permissions, and the plugins.

``python -m tests.integration.airflow_api PORT`` is its process. It makes the database from Airflow's models, and leaves
the REST API out: both would take most of the time. The tests in ``tests/e2e`` have a whole Airflow.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests

from testbed.airflow import airflow_environment
from testbed.ports import free_port
from testbed.processes import ChildProcess, answers

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
REQUEST_SECONDS = 30.0
USERS = {"ann": "admin", "olga": "op", "ulf": "user", "vic": "viewer"}
"""The role of each user."""


@dataclass(frozen=True)
class AirflowApi:
    """A running API server."""

    url: str
    home: Path

    @cache  # noqa: B019 - as many entries as users, in a process that ends
    def token(self, user: str) -> str:
        """Log a user in."""
        passwords = json.loads((self.home / "passwords.json").read_text())
        login = {"username": user, "password": passwords[user]}
        answer = requests.post(f"{self.url}/auth/token", json=login, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def get(self, path: str, user: str | None = None, **options: Any) -> requests.Response:
        """Ask as a browser of a user who is logged in does: with the session's cookie."""
        cookies = {"_token": self.token(user)} if user else {}
        return requests.get(
            f"{self.url}{path}", cookies=cookies, timeout=REQUEST_SECONDS, **{"allow_redirects": False, **options}
        )

    def insert(self, table: str, **values: Any) -> None:
        """Put a row into Airflow's database, without the rows that it belongs to."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=REQUEST_SECONDS)) as database, database:
            database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


@contextmanager
def airflow_api(home: Path, variables: Mapping[str, str]) -> Iterator[AirflowApi]:
    """Run an API server on a free port."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "_AIRFLOW_PROCESS_CONTEXT": "server",  # as `airflow api-server` sets it: connections are in the database
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-this-test-only-for-this-test-only-for-this-test",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
    }
    environment = airflow_environment(home=home, dags_folder=home / "dags", variables=settings | dict(variables))
    command = [sys.executable, "-m", "tests.integration.airflow_api", str(port)]
    with ChildProcess(command, log=home / "api.log", env=environment, cwd=ROOT) as process:
        process.wait_ready(answers(f"{url}/auth/login"), timeout=START_SECONDS)
        yield AirflowApi(url, home)


def main(port: int) -> None:
    """Make the database and serve."""
    import uvicorn
    from airflow.api_fastapi.app import init_auth_manager, init_plugins
    from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
    from airflow.utils.db import initdb
    from fastapi import FastAPI

    initdb()
    app = FastAPI()
    init_auth_manager(app)
    init_plugins(app)
    app.add_middleware(JWTRefreshMiddleware)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
