"""The real clients, unchanged, read and write through real clusters, as docs/reference/clients.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.s3 import S3Server
from tests.clients.matrix import (
    ALLUXIO_CLIENTS,
    CLIENTS,
    FAILED,
    PAGE,
    PREHEAT,
    S3_CLIENTS,
    Client,
    filled_origin,
    installed,
    parse_table,
    run_all,
    run_session,
    table,
    version_of,
)
from tests.clients.place import warm_place


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    installed()
    with filled_origin(tmp_path_factory.mktemp("origin")) as origin:
        yield origin


def documented() -> dict[str, dict[str, str]]:
    return parse_table(PAGE.read_text())


@pytest.mark.parametrize("clients", [(*S3_CLIENTS, PREHEAT), ALLUXIO_CLIENTS], ids=["s3", "alluxio"])
def test_the_table_says_what_the_clients_can_do(clients: tuple[Client, ...], origin: S3Server, tmp_path: Path):
    found = run_all(tmp_path, origin, clients)
    versions = {client.name: version_of(client) for client in clients}
    shown = parse_table(table(found, versions))
    page = documented()
    assert shown == {name: page[name] for name in shown}, "`make clients` writes the table anew."


def test_it_names_all_clients_and_none_fails():
    page = documented()
    assert list(page) == [client.name for client in CLIENTS]
    assert not [cell for cells in page.values() for cell in cells.values() if cell.startswith(FAILED)]


def test_the_owner_answers_as_the_others_do(origin: S3Server, tmp_path: Path):
    boto3 = S3_CLIENTS[0]
    with warm_place(origin, tmp_path) as place:
        found = run_session(boto3, place.owner, place)
    assert not [outcome for outcome in found if outcome.reason]
