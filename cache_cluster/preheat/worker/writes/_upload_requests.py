"""Uploads in parts: any worker takes any request, and the one that has the upload does it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

from preheat.attributes import NONE, Attributes
from preheat.errors import PreheatError
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.versions import ObjectInfo
from preheat.worker.writes._body import Body, chunks
from preheat.worker.writes._conditions import Condition
from preheat.worker.writes._local import LocalWrites
from preheat.worker.writes._remote import NotReachedError
from preheat.worker.writes._routes import Routes
from preheat.worker.writes._staging import Chunks
from preheat.worker.writes._uploads import Completion, Part, Upload
from preheat.worker.writes._wire import RemoteWrites

log = get_logger("worker")


class UploadRequests(ABC):
    """The part of a :class:`~preheat.worker.writes.WriteService` that is about uploads.

    Args:
        routes: says which worker does what.
        remote: has other workers do it.
        local: does it here.
    """

    def __init__(self, routes: Routes, remote: RemoteWrites, local: LocalWrites) -> None:
        self._routes = routes
        self._remote = remote
        self._local = local

    @abstractmethod
    def _check_writable(self, path: UfsPath) -> None:
        """Return if a path may be written."""

    async def create_upload(self, path: UfsPath, *, attributes: Attributes = NONE, forwarded: bool = False) -> str:
        """Begin an upload in parts of an object with some attributes, and return its id.

        Raises:
            ReadOnly: the mount does not allow it.
            Overloaded: its worker has as many as it may.
        """
        self._check_writable(path)
        return await self._routes.at_owner(
            path,
            there=None if forwarded else lambda owner: self._remote.create_upload(owner, path, attributes),
            here=lambda: self._local.create_upload(path, attributes),
        )

    async def upload_part(self, path: UfsPath, upload_id: str, number: int, chunks: Chunks, *, size: int | None) -> str:
        """Receive a part, in place of an earlier one of its number, and return its etag.

        Raises:
            UploadNotFound: there is no such upload.
            InvalidRequest: the number is none from 1 to 10,000, or the size another one.
            StoreFull: it does not fit.
            Overloaded: it does not fit now.
            Unavailable: the worker that has the upload cannot be reached.
        """
        return await self._routes.at_holder(
            upload_id,
            there=lambda holder: self._remote.upload_part(holder, path, upload_id, number, chunks, size=size),
            here=lambda: self._local.upload_part(path, upload_id, number, chunks, size=size),
        )

    async def complete_upload(
        self,
        path: UfsPath,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        """Make the parts with these numbers and etags one object.

        Args:
            path: the object.
            upload_id: as :meth:`create_upload` returned it.
            parts: in the order of their numbers.
            if_match: as for a whole object.
            if_none_match: likewise.

        Raises:
            UploadNotFound: there is no such upload.
            InvalidPart, InvalidPartOrder, PartTooSmall: as named; the upload stays.
            VersionChanged: a condition does not hold; the upload stays.
            Conflict: it is being completed under another condition. Otherwise as ``WriteService.put``.
        """
        self._check_writable(path)
        condition = Condition(if_match=if_match, if_none_match=if_none_match)
        completion = Completion(path=str(path), upload_id=upload_id, parts=tuple(parts), condition=condition)
        return await self._routes.at_holder(
            upload_id,
            there=lambda holder: self._remote.complete_upload(holder, path, completion),
            here=lambda: self._local.complete_upload(completion, partial(self._write, path, condition)),
        )

    async def abort_upload(self, path: UfsPath, upload_id: str) -> None:
        """Drop an upload with its parts; raises as :meth:`list_parts`."""
        await self._routes.at_holder(
            upload_id,
            there=lambda holder: self._remote.abort_upload(holder, path, upload_id),
            here=lambda: self._local.abort_upload(path, upload_id),
        )

    async def list_parts(self, path: UfsPath, upload_id: str) -> list[Part]:
        """Return the parts of an upload, in order.

        Raises:
            UploadNotFound: there is no such upload.
            Unavailable: the worker that has it cannot be reached.
        """
        return await self._routes.at_holder(
            upload_id,
            there=lambda holder: self._remote.list_parts(holder, path, upload_id),
            here=lambda: self._local.list_parts(path, upload_id),
        )

    async def list_uploads(self, path: UfsPath, *, forwarded: bool = False) -> list[Upload]:
        """Return the uploads of paths that begin with this one, at all workers that answer, in the paths' order."""
        others = [] if forwarded else self._routes.others(path)
        found = await asyncio.gather(*(self._uploads_at(member, path) for member in others))
        uploads = [*self._local.uploads.begun(str(path)), *(upload for some in found for upload in some)]
        return sorted(uploads, key=lambda upload: (upload.path, upload.started_at, upload.id))

    async def _write(self, path: UfsPath, condition: Condition, body: Body, attributes: Attributes) -> ObjectInfo:
        """Write what an upload has become.

        With a condition the path's owner does it: workers may have come or gone since the upload began here, and only
        what one worker does can be judged in one order.
        """

        async def there(owner: Member) -> ObjectInfo:
            return await self._remote.put(
                owner, path, chunks(body), size=body.size, condition=condition, attributes=attributes
            )

        return await self._routes.at_owner(
            path,
            there=there if condition.asks else None,
            here=lambda: self._local.write(path, body, condition, attributes),
        )

    async def _uploads_at(self, member: Member, path: UfsPath) -> list[Upload]:
        try:
            return await self._remote.list_uploads(member, path)
        except (NotReachedError, PreheatError) as error:
            log.warning(
                "A worker's uploads are not known.", action="uploads_unknown", worker=member.id, error=str(error)
            )
            return []
