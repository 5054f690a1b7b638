"""Who sent a request, and whether it may do what it asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from preheat.access import EVERYTHING, Grant, Role, authorize
from preheat.errors import Forbidden
from preheat.paths import UfsPath
from preheat.worker.port import _http as http
from preheat.worker.s3._credentials import S3Credentials
from preheat.worker.s3._sigv4 import Signature


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """Who sent a request."""

    grant: Grant
    signature: Signature | None = None
    """What vouches for its body; none where nobody is asked for a signature."""


_ANYBODY = Sender(grant=EVERYTHING)


class Access:
    """Recognises senders.

    Args:
        credentials: that requests have to be signed by; none lets every request in, signed or not.
        clock: returns seconds since the epoch.
    """

    def __init__(self, credentials: S3Credentials | None, *, clock: Callable[[], float] = time.time) -> None:
        self._credentials = credentials
        self._clock = clock

    def sender(self, request: http.Request) -> Sender:
        """Return who sent a request; raises as ``S3Credentials.authenticate``."""
        if self._credentials is None:
            return _ANYBODY
        caller = self._credentials.authenticate(request.method, request.target, request.headers, now=self._clock())
        return Sender(grant=caller.grant, signature=caller.signature)


def check_read(sender: Sender, path: UfsPath) -> None:
    """Refuse to read an object outside of what the sender's token is for; raises Forbidden."""
    if sender.grant.prefixes:  # without, each role may read everything
        authorize(sender.grant, Role.READ, (path,))


def check_write(sender: Sender, *paths: UfsPath) -> None:
    """Refuse a change that the sender's token does not allow; raises Forbidden."""
    authorize(sender.grant, Role.SUBMIT, paths)


def sees_bucket(sender: Sender, root: UfsPath) -> bool:
    """Whether something of a bucket is within what the sender's token is for."""
    prefixes, uri = sender.grant.prefixes, str(root)
    return not prefixes or any(uri.startswith(prefix) or prefix.startswith(uri) for prefix in prefixes)


def check_bucket(sender: Sender, root: UfsPath) -> None:
    """Refuse to tell of a bucket of which the sender may see nothing; raises Forbidden."""
    if not sees_bucket(sender, root):
        raise Forbidden(f"path='{root}' is outside of what the token is for: {', '.join(sender.grant.prefixes)}.")
