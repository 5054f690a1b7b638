"""What answers the requests of a port's connections."""

from __future__ import annotations

from typing import Protocol

from preheat.errors import PreheatError
from preheat.worker.port._answers import Parts, Placed, Stream
from preheat.worker.port._http import Answer, Request
from preheat.worker.port._request_body import Intake


class Service(Protocol):
    """What a port answers."""

    def intake(self, method: str, target: str) -> Intake:
        """Return what becomes of the body of such a request."""
        ...

    def answer_now(self, request: Request) -> Parts | None:
        """Return the answer if no wait is needed.

        Raises:
            PreheatError: the request cannot be answered.
        """
        ...

    async def answer(self, request: Request) -> bytes | Stream:
        """Return the answer to a request that :meth:`answer_now` left; the body that it streams was read by then.

        Raises:
            PreheatError: the request cannot be answered.
        """
        ...

    def problem(self, error: PreheatError, request: Request | None) -> Answer:
        """Return how an error is told to whoever sent a request, or something that is none."""
        ...


class Shortcut(Protocol):
    """Answers the most frequent requests without parsing them."""

    def answer(self, data: bytes, *, from_file: bool) -> Parts | Placed | None:
        """Return the whole answer to one whole request, or nothing if it takes the long way.

        Args:
            data: the request.
            from_file: whether its body may be sent from a file.
        """
        ...

    def rest(self, answer: Placed, sent: int) -> bytes:
        """Return what follows the first bytes of an answer, read.

        Raises:
            PreheatError: it cannot be read any more.
        """
        ...
