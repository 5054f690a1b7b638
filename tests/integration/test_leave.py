"""`preheat leave` as a preStop hook runs it: beside a real worker, with the variables of that, and no coordinator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from testbed.nats import NatsServer
from testbed.ports import free_port
from testbed.processes import ChildProcess, answers

PREHEAT = Path(sys.executable).parent / "preheat"


def test_a_worker_is_not_ready_any_more_when_it_has_left(tmp_path: Path):
    port = free_port()
    with NatsServer(tmp_path / "nats") as nats:
        address = urlsplit(nats.url)
        environment = {
            "PREHEAT_ID": "worker-0",
            "PREHEAT_PORT": str(port),
            "PREHEAT_S3": "false",
            "PREHEAT_DATA_DIR": str(tmp_path / "data"),
            "PREHEAT_CAPACITY": "64MiB",
            "PREHEAT_NATS_URL": f"nats://{address.hostname}:{address.port}",
            "PREHEAT_NATS_TOKEN": str(address.username),
        }
        ready = f"http://127.0.0.1:{port}/v1/readyz"
        with ChildProcess([PREHEAT, "worker"], log=tmp_path / "worker.log", env=environment) as worker:
            worker.wait_ready(answers(ready))
            left = subprocess.run(
                [PREHEAT, "leave", "--timeout", "20"],
                env={**environment, "PATH": "/usr/bin"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (left.returncode, left.stdout) == (0, "worker-0 has left.\n"), left.stderr
            assert not answers(ready)()
            assert answers(ready.replace("readyz", "healthz"))()
