"""Which worker does a write: the owner of its path, or the one that has its upload."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from preheat.errors import Unavailable
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.worker.fills import Owners
from preheat.worker.writes._remote import NotReachedError
from preheat.worker.writes._uploads import UploadNotFound, worker_of

T = TypeVar("T")
log = get_logger("worker")


class Routes:
    """Finds the worker for a write.

    Args:
        worker_id: this worker.
        owners: says who owns a path.
    """

    def __init__(self, worker_id: str, owners: Owners) -> None:
        self._worker_id = worker_id
        self._owners = owners

    def line(self, path: UfsPath) -> Sequence[Member]:
        """Return all workers, those that rank highest for a path first."""
        return self._owners(str(path), sys.maxsize)

    def others(self, path: UfsPath) -> list[Member]:
        """Return the other workers, those that rank highest for a path first."""
        return [member for member in self.line(path) if member.id != self._worker_id]

    async def at_owner(
        self,
        path: UfsPath,
        *,
        there: Callable[[Member], Awaitable[T]] | None,
        here: Callable[[], Awaitable[T]],
    ) -> T:
        """Have a write done by the path's owner; here, if that cannot be reached: it will hear of it.

        Args:
            path: what is written.
            there: asks another worker; none if it is to be done here in any case.
            here: does it.
        """
        owner = next(iter(self._owners(str(path), 1)), None)
        if there is not None and owner is not None and owner.id != self._worker_id:
            try:
                return await there(owner)
            except NotReachedError as error:
                log.warning(
                    "A path's owner cannot be reached; the write is done here.",
                    action="owner_not_reached",
                    path=str(path),
                    worker=owner.id,
                    error=str(error),
                )
        return await here()

    async def at_holder(
        self, upload_id: str, *, there: Callable[[Member], Awaitable[T]], here: Callable[[], Awaitable[T]]
    ) -> T:
        """Have something done by the worker that has an upload.

        Raises:
            UploadNotFound: that worker has left.
            Unavailable: it cannot be reached.
        """
        worker = worker_of(upload_id)
        if worker == self._worker_id:
            return await here()
        member = next((member for member in self._owners("", sys.maxsize) if member.id == worker), None)
        if member is None:
            raise UploadNotFound(f"There is no upload {upload_id[:80]!r}: the worker that had it is gone.")
        try:
            return await there(member)
        except NotReachedError as error:
            raise Unavailable(f"The worker {worker}, which has the upload, cannot be reached: {error}.") from error
