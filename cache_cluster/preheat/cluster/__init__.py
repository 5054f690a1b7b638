"""A whole local cluster as child processes of one supervisor: what `preheat up` runs.

The supervisor holds a lock on the data directory, chooses the addresses, starts nats-server, the coordinator
and the workers, restarts what dies, and stops them in the opposite order. Its children cannot outlive it, not
even after ``kill -9``.
"""

from preheat.cluster._control import run_cluster, serve_in_background, start_in_background, stop_cluster
from preheat.cluster._settings import ClusterFiles, ClusterSettings, default_data_dir
from preheat.cluster._state import ClusterState, PartState, read_state

__all__ = [
    "ClusterFiles",
    "ClusterSettings",
    "ClusterState",
    "PartState",
    "default_data_dir",
    "read_state",
    "run_cluster",
    "serve_in_background",
    "start_in_background",
    "stop_cluster",
]
