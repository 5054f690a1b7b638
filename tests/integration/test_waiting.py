"""Processes that start before NATS does, as at a first installation: they wait, say for what, and end when asked to."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from testbed.nats import NatsServer
from testbed.ports import free_ports
from testbed.processes import ChildProcess, answers, logged

PREHEAT = Path(sys.executable).parent / "preheat"
WAITING = '"action": "engine_wait"'


def test_coordinators_and_workers_wait_for_nats_and_then_are_ready(tmp_path: Path):
    nats = NatsServer(tmp_path / "nats")
    rest, data = free_ports(2)
    token, _, address = nats.url.removeprefix("nats://").partition("@")
    (tmp_path / "token").write_text(f"{token}\n")
    environment = {
        "PREHEAT_NATS_URL": f"nats://{address}",
        "PREHEAT_NATS_TOKEN_FILE": str(tmp_path / "token"),
        "PREHEAT_NATS_WAIT": "600",
        "PREHEAT_S3": "false",
        "PREHEAT_DATA_DIR": str(tmp_path / "data"),
        "PREHEAT_CAPACITY": "64MiB",
    }
    with ExitStack() as stack:
        processes = {
            port: stack.enter_context(
                ChildProcess(
                    [PREHEAT, kind, "--port", str(port)], log=tmp_path / f"{kind}.log", env=environment, name=kind
                )
            )
            for kind, port in (("coordinator", rest), ("worker", data))
        }
        impatient = stack.enter_context(
            ChildProcess([PREHEAT, "coordinator", "--port", "0"], log=tmp_path / "impatient.log", env=environment)
        )
        for process in processes.values():
            process.wait_ready(logged(process.log, WAITING))
            assert f"nats://{address}" in process.log_tail()
            assert token not in process.log_tail()
        assert answers(f"http://127.0.0.1:{data}/v1/healthz")()
        assert not answers(f"http://127.0.0.1:{data}/v1/readyz")()
        impatient.wait_ready(logged(impatient.log, WAITING))
        impatient.terminate()
        assert impatient.wait(30) == 0, "a container's first process ends by no signal that it does not handle"
        stack.enter_context(nats)
        for port, process in processes.items():
            process.wait_ready(answers(f"http://127.0.0.1:{port}/v1/readyz"))
        for process in processes.values():
            process.terminate()
            assert process.wait(30) == 0, process.log_tail()
