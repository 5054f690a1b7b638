"""How much a client of the data port may take: bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits of the data port."""

    file_roots: tuple[str, ...] = ()
    """Absolute directories whose files may be read on a reader's behalf. Without any, ``file://`` paths are served only
    when a job has cached them: otherwise whoever reaches the port could read the worker's machine."""
    max_head_bytes: int = 16 << 10
    """A request's line and headers. A key of 1,024 bytes takes 3 KiB when percent-encoded."""
    max_body_bytes: int = 4 << 20
    """A request's body where it is held until it is answered, such as a batch of reads."""
    receive_buffer_bytes: int = 512 << 10
    """Of a body that is streamed, what may wait for its reader before no more is read from the socket."""
    send_buffer_bytes: int = 256 << 10
    """What the kernel shall hold of an answer for one client to take; Linux holds twice as much. Left to itself that
    grows to megabytes, beyond what a processor's cache holds, and large bodies go out at half the speed. A connection
    sends no more than this in one round trip; 0 leaves it to the kernel, for clients that are far away."""
    head_seconds: float = 10.0
    """For a whole head to arrive, from its first byte, and the body that belongs to it."""
    idle_seconds: float = 75.0
    """Between two requests of a connection: longer than clients keep theirs, so that they close first."""
    stall_seconds: float = 60.0
    """For a client that reads nothing of what it asked for, or sends nothing of what it announced."""
    linger_seconds: float = 2.0
    """For a refused client to read why before the connection is reset under it."""
    drain_seconds: float = 5.0
    """For answers under way when the server stops."""
