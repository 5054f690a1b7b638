"""The data port: how readers get at what a worker has."""

from preheat.worker.port._access import Authorizer, following_tokens
from preheat.worker.port._alluxio import AlluxioWorker
from preheat.worker.port._answers import Parts, Stream
from preheat.worker.port._request_body import Intake
from preheat.worker.port._server import DataServer, Server, ServerSettings
from preheat.worker.port._service import Service, Shortcut

__all__ = [
    "AlluxioWorker",
    "Authorizer",
    "DataServer",
    "Intake",
    "Parts",
    "Server",
    "ServerSettings",
    "Service",
    "Shortcut",
    "Stream",
    "following_tokens",
]
