"""The real clients, unchanged, read and write through real clusters, as the documentation says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from testbed import JuiceFSGateway
from tests.clients.matrix import (
    ALLUXIO_CLIENTS,
    CLIENTS,
    FAILED,
    PAGE,
    ROOT,
    S3_CLIENTS,
    SIGNING_CLIENTS,
    Client,
    installed,
    is_missing,
    parse_table,
    run_session,
    run_sessions,
    table,
    version_of,
)
from tests.clients.place import Place, fill, warm_place

HOW_TO = ROOT / "docs" / "how-to" / "read-with-s3.md"
IMAGE = b"\xff\xd8\xff\xe0" * 1000


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JuiceFSGateway]:
    installed()
    with JuiceFSGateway(tmp_path_factory.mktemp("origin")) as origin:
        fill(origin)
        yield origin


@pytest.fixture(scope="module")
def place(origin: JuiceFSGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with warm_place(origin, tmp_path_factory.mktemp("cluster")) as place:
        yield place


def check_table(clients: Sequence[Client], place: Place) -> None:
    clients = [client for client in clients if not is_missing(client)]
    found = run_sessions(clients, place)
    shown = parse_table(table(found, {client.name: version_of(client) for client in clients}))
    documented = parse_table(PAGE.read_text())
    assert shown == {name: documented[name] for name in shown}, "`make clients` writes the table anew."


def test_the_table_says_what_clients_of_s3_can_do(place: Place):
    check_table(SIGNING_CLIENTS, place)


def test_the_table_says_what_clients_of_alluxio_can_do(origin: JuiceFSGateway, tmp_path: Path):
    with warm_place(origin, tmp_path, auth=False) as place:
        check_table(ALLUXIO_CLIENTS, place)


def test_the_table_names_all_clients_and_none_fails():
    page = parse_table(PAGE.read_text())
    assert list(page) == [client.name for client in CLIENTS]
    assert not [cell for cells in page.values() for cell in cells.values() if cell.startswith(FAILED)]


def test_the_owner_answers_as_the_others_do(place: Place):
    assert not [outcome for outcome in run_session(S3_CLIENTS[0], place.owner, place) if outcome.reason]


def run_block(text: str, directory: Path, environment: dict[str, str]) -> dict[str, str]:
    """Run lines of a shell, and return the environment that they leave."""
    script = f"{text}\nenv -0 > environment"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    pairs = (directory / "environment").read_text().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


def test_the_code_of_the_how_to_runs(origin: JuiceFSGateway, place: Place, tmp_path: Path):
    client = origin.client()
    client.create_bucket(Bucket="datasets")
    client.put_object(Bucket="datasets", Key="images/cats/1.jpg", Body=IMAGE)
    client.close()
    python = S3_CLIENTS[0].python
    paths = [str(python.parent), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    environment = {"PATH": ":".join(paths), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", **place.admin}
    extension = next(python.parents[1].glob("lib/*/site-packages/**/httpfs.duckdb_extension"))
    replaced = {
        "http://127.0.0.1:29998": place.other,
        "127.0.0.1:29998": urlsplit(place.other).netloc,
        "INSTALL httpfs; LOAD httpfs": f"LOAD '{extension}'",
    }
    shown = {"body": IMAGE, "names": ["images/cats/1.jpg"], "head": IMAGE[:16]}
    page = reduce(lambda text, names: text.replace(*names), replaced.items(), HOW_TO.read_text())
    for language, text in re.findall(r"```(bash|python)\n(.*?)```", page, flags=re.DOTALL):
        if language == "bash":
            environment = run_block(text, tmp_path, environment)
            continue
        checks = [f"assert {name} == {value!r}" for name, value in shown.items() if f"{name} =" in text]
        (tmp_path / "block.py").write_text("\n".join([text, *checks]))
        run_block(f"{python} block.py", tmp_path, environment)
    assert (tmp_path / "cats/1.jpg").read_bytes() == (tmp_path / "images/cats/1.jpg").read_bytes() == IMAGE
