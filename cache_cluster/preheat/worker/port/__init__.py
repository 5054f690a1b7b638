"""The data port: how readers get at what a worker has."""

from preheat.worker.port._access import Authorizer, following_tokens
from preheat.worker.port._alluxio import AlluxioWorker
from preheat.worker.port._server import DataServer, ServerSettings

__all__ = ["AlluxioWorker", "Authorizer", "DataServer", "ServerSettings", "following_tokens"]
