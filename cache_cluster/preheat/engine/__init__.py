"""The engine: durable work queues and watched state, on NATS JetStream or in memory."""

from preheat.engine._base import Bucket, Consumer, Engine, Entry, Lease, Queue, is_token
from preheat.engine._memory import MemoryEngine
from preheat.engine._nats_connect import connect

__all__ = ["Bucket", "Consumer", "Engine", "Entry", "Lease", "MemoryEngine", "Queue", "connect", "is_token"]
