"""Real programs for tests, the demo and the benchmarks: S3 servers and the processes that run them."""

from testbed.ports import free_port, free_ports
from testbed.processes import ChildProcess, StartupError, answers, listens, logged
from testbed.s3 import JuiceFSGateway, S3Server, SeaweedFS

__all__ = [
    "ChildProcess",
    "JuiceFSGateway",
    "S3Server",
    "SeaweedFS",
    "StartupError",
    "answers",
    "free_port",
    "free_ports",
    "listens",
    "logged",
]
