"""Real S3 servers from their wheels: both check SigV4 signatures and refuse a wrong key.

``JuiceFSGateway`` is ready in a third of a second: the server of the tests. ``SeaweedFS`` needs 3 s but passes every
probe: the origin of benchmarks. What they do differently from AWS:

- both merge ``//`` in a key into ``/`` and refuse the segments ``.`` and ``..``;
- JuiceFS is a file system: it also lists a directory marker ``dir/`` for every directory that a key made, keeps
  ``x`` and ``x/y`` from existing together, and fails DeleteObjects of a current boto3 (no Content-MD5);
- SeaweedFS lists ``a/b`` before ``a-b``, which is not the order of the keys, and turns a backslash into a slash.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from testbed.ports import free_port, free_ports
from testbed.processes import ChildProcess, StartupError, answers

REGION = "us-east-1"
_STARTUP_SECONDS = 60.0


class S3Server(ABC):
    """An S3 server on loopback with keys of its own; use it as a context manager.

    Args:
        directory: holds its data and its log; starting again on the same directory brings the data back.
        port: where to listen; by default a free one.
        access_key: by default a random one.
        secret_key: by default a random one.
    """

    def __init__(self, directory: Path, *, port: int | None = None, access_key: str = "", secret_key: str = "") -> None:
        self.directory = directory
        self.port = port or free_port()
        self.access_key = access_key or f"test{secrets.token_hex(8)}"
        self.secret_key = secret_key or secrets.token_hex(20)
        self._process: ChildProcess | None = None

    @property
    def endpoint(self) -> str:
        """The URL to give as AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "server.log"

    @property
    def process(self) -> ChildProcess:
        """The running server."""
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} is not started.")
        return self._process

    def environment(self) -> dict[str, str]:
        """Return the variables that point any AWS client at this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,  # boto3 reads only this one
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """Return a boto3 client for this server."""
        import boto3  # noqa: PLC0415 - it takes 0.2 s, and who only starts a server does not need it
        from botocore.config import Config  # noqa: PLC0415 - as above

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
        )

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StartupError: it ended or does not answer; the message has the end of its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = self._launch()
        try:
            self._process.wait_ready(self._probe(), timeout=_STARTUP_SECONDS)
        except StartupError:
            self._process.kill()
            raise

    def stop(self) -> None:
        """Stop the server; its data stays. Idempotent."""
        if self._process is not None:
            self._process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self) -> ChildProcess: ...

    @abstractmethod
    def _probe(self) -> Callable[[], bool]: ...


class JuiceFSGateway(S3Server):
    """The JuiceFS gateway over a local directory with its metadata in SQLite."""

    def _launch(self) -> ChildProcess:
        directory = self.directory.resolve()
        meta = f"sqlite3://{directory}/meta.db"
        if not (directory / "meta.db").exists():
            self._format(meta, directory)
        return ChildProcess(
            [
                *(_program("juicefs"), "--no-agent", "gateway"),
                *("--multi-buckets", "--keep-etag", "--object-meta"),
                *("--no-banner", "--no-usage-report", "--no-bgjob", "--backup-meta=0"),
                *(f"--cache-dir={directory}/cache", f"--log={directory}/gateway.log"),
                *(f"--metrics=127.0.0.1:{free_port()}", meta, f"127.0.0.1:{self.port}"),
            ],
            log=self.log,
            env={"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key},
        )

    def _probe(self) -> Callable[[], bool]:
        return answers(f"{self.endpoint}/minio/health/ready")

    def _format(self, meta: str, directory: Path) -> None:
        objects = ["--storage=file", f"--bucket={directory}/objects/", "--trash-days=0"]
        result = subprocess.run(
            [_program("juicefs"), "--no-agent", "format", *objects, meta, "testbed"],
            capture_output=True,
            text=True,
            timeout=_STARTUP_SECONDS,
            check=False,
        )
        if result.returncode:
            raise StartupError(f"juicefs format ended with status {result.returncode}.\n{result.stderr}")


class SeaweedFS(S3Server):
    """SeaweedFS with master, volume, filer and S3 server in one process."""

    _ports: Mapping[str, int] = MappingProxyType({})

    def stop(self) -> None:
        """Stop the server; its data stays. Idempotent."""
        super().stop()
        for port in self._ports.values():  # it leaves its gRPC sockets behind, at a place that no flag moves
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108 - SeaweedFS's choice
                socket.unlink(missing_ok=True)

    def _launch(self) -> ChildProcess:
        config = self.directory / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._identities()))
        parts = ("master", "volume", "filer")
        names = [f"{part}.port{suffix}" for part in parts for suffix in ("", ".grpc")]
        self._ports = dict(zip([*names, "s3.port.grpc"], free_ports(7), strict=True))
        return ChildProcess(
            [
                *(_program("weed"), "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *("-s3", f"-s3.port={self.port}", f"-s3.config={config.name}", "-s3.localSocket=s3.sock"),
                "-filer.localSocket=filer.sock",
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
                *("-master.volumeSizeLimitMB=1000", "-volume.max=30"),
                *(f"-{name}={port}" for name, port in self._ports.items()),
            ],
            log=self.log.resolve(),
            cwd=self.directory,  # a Unix socket's path is short, so it must be a relative one
            grace=1.0,  # it takes 25 s to stop by itself; what it acknowledged is on disk
        )

    def _identities(self) -> dict[str, Any]:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {"identities": [{"name": "testbed", "credentials": credentials, "actions": actions}]}

    def _probe(self) -> Callable[[], bool]:
        answers_s3 = answers(self.endpoint)
        return lambda: answers_s3() and self._has_volumes()

    def _has_volumes(self) -> bool:
        """Whether the volume server is registered; until then S3 answers, but every object is an internal error."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._ports['master.port']}/dir/status", timeout=2
            ) as reply:
                return bool(json.load(reply)["Topology"]["Max"])
        except OSError:
            return False


def _program(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise StartupError(f"{path} is missing: install {name} into this environment with `make setup`.")
    return str(path)
