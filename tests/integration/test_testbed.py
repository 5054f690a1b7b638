from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from testbed import ChildProcess, JuiceFSGateway, S3Server, SeaweedFS, StartupError, free_ports, listens, logged


def test_the_ports_are_different_and_free() -> None:
    ports = free_ports(50)

    assert len(set(ports)) == 50
    assert not any(listens(port)() for port in ports)


def test_a_child_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such disk'); raise SystemExit(3)"]

    with ChildProcess(command, log=tmp_path / "log", name="store") as child, pytest.raises(StartupError) as error:
        child.wait_ready(lambda: False, timeout=10)

    assert "store ended with status 3" in str(error.value)
    assert "no such disk" in str(error.value)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    child = ChildProcess([sys.executable, "-c", deaf], log=log, grace=0.1)
    child.wait_ready(logged(log, "up"), timeout=10)

    child.stop()
    child.stop()

    assert child.returncode == -signal.SIGKILL


_PARENT = """
import os, sys
from pathlib import Path
from testbed import ChildProcess, logged

log = Path(sys.argv[1])
child = ChildProcess(["sh", "-c", "echo up; exec sleep 60"], log=log)
child.wait_ready(logged(log, "up"), timeout=10)
print(child.pid, flush=True)
os._exit(1)
"""


def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "log")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    orphan = Path(f"/proc/{int(result.stdout)}")
    deadline = time.monotonic() + 10
    while orphan.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not orphan.exists()


@pytest.mark.parametrize("kind", [JuiceFSGateway, SeaweedFS])
def test_the_servers_check_signatures_and_keep_their_data(kind: type[S3Server], tmp_path: Path) -> None:
    with kind(tmp_path / "s3", access_key="access-key", secret_key="secret-key") as server:
        client = server.client()
        client.create_bucket(Bucket="data")
        client.put_object(Bucket="data", Key="a", Body=b"content")
        assert _error_code(server, "wrong-key", "secret-key") == "InvalidAccessKeyId"
        assert _error_code(server, "access-key", "wrong-secret") == "SignatureDoesNotMatch"
        assert _error_code(server, "access-key", "secret-key") == ""

    with kind(tmp_path / "s3", access_key="access-key", secret_key="secret-key") as server:
        assert server.client().get_object(Bucket="data", Key="a")["Body"].read() == b"content"


def _error_code(server: S3Server, access_key: str, secret_key: str) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
    try:
        client.list_objects_v2(Bucket="data")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
