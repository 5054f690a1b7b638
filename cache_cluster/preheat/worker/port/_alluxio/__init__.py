"""What Alluxio's own Python clients ask of a worker (dialect A): load jobs, listings, reads and writes."""

from preheat.worker.port._alluxio._routes import methods_of, takes_body
from preheat.worker.port._alluxio._worker import AlluxioWorker

__all__ = ["AlluxioWorker", "methods_of", "takes_body"]
