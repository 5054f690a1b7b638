"""How writes are put to a data port, and what it answers: one worker's side of :mod:`preheat.worker.port._writes`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from preheat.attributes import Attributes
from preheat.errors import ObjectNotFound
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.versions import ObjectInfo
from preheat.worker.writes._conditions import ANY, Condition
from preheat.worker.writes._remote import RemoteWorkers
from preheat.worker.writes._staging import Chunks
from preheat.worker.writes._uploads import Completion, Part, Upload
from preheat.writes import PendingWrite


class RemoteWrites:
    """Has other workers write; each method raises what they answer, and NotReachedError.

    Args:
        workers: asks them.
    """

    def __init__(self, workers: RemoteWorkers) -> None:
        self._workers = workers

    async def put(
        self,
        member: Member,
        path: UfsPath,
        chunks: Chunks,
        *,
        size: int | None,
        condition: Condition,
        attributes: Attributes,
    ) -> ObjectInfo:
        """Write an object."""
        target = f"/v1/data/{path.url_path}"
        headers = {**attributes, **_headers(condition)}
        return _info(await self._workers.ask(member, "PUT", target, body=chunks, size=size, headers=headers))

    async def hold(self, member: Member, write: PendingWrite, chunks: Chunks) -> None:
        """Have a pending version held."""
        target = f"/v1/held?path={quote(write.path, safe='')}&id={write.id}&etag={write.etag}"
        await self._workers.ask(member, "PUT", target, body=chunks, size=write.size)

    async def release(self, member: Member, write: PendingWrite) -> None:
        """Have a version that was not written given up."""
        await self._workers.ask(member, "DELETE", f"/v1/held?path={quote(write.path, safe='')}&id={write.id}")

    async def delete(self, member: Member, path: UfsPath) -> bool:
        """Remove an object; false if it was not there."""
        try:
            await self._workers.ask(member, "DELETE", f"/v1/data/{path.url_path}")
        except ObjectNotFound:
            return False
        return True

    async def copy(
        self, member: Member, source: UfsPath, target: UfsPath, attributes: Attributes | None, etag: str | None
    ) -> ObjectInfo:
        """Copy an object, or only a version of it; with other attributes if some are given."""
        where = f"/v1/copy?path={_quoted(source)}&target={_quoted(target)}"
        if attributes is not None:
            where += "&attributes=replace"
        if etag is not None:
            where += f"&etag={quote(etag, safe='')}"
        return _info(await self._workers.ask(member, "POST", where, headers=attributes))

    async def create_upload(self, member: Member, path: UfsPath, attributes: Attributes) -> str:
        """Begin an upload in parts."""
        answer = await self._workers.ask(member, "POST", f"/v1/uploads?path={_quoted(path)}", headers=attributes)
        return str(msgspec.json.decode(answer)["upload"])

    async def upload_part(
        self, member: Member, path: UfsPath, upload_id: str, number: int, chunks: Chunks, *, size: int | None
    ) -> str:
        """Send a part."""
        target = _upload(path, upload_id, f"/{number}")
        return str(msgspec.json.decode(await self._workers.ask(member, "PUT", target, body=chunks, size=size))["etag"])

    async def complete_upload(self, member: Member, path: UfsPath, completion: Completion) -> ObjectInfo:
        """Make the parts one object."""
        body = msgspec.json.encode({"parts": [{"number": number, "etag": etag} for number, etag in completion.parts]})
        target, headers = _upload(path, completion.upload_id), _headers(completion.condition)
        return _info(await self._workers.ask(member, "POST", target, body=body, headers=headers))

    async def abort_upload(self, member: Member, path: UfsPath, upload_id: str) -> None:
        """Drop an upload."""
        await self._workers.ask(member, "DELETE", _upload(path, upload_id))

    async def list_parts(self, member: Member, path: UfsPath, upload_id: str) -> list[Part]:
        """Return the parts that are there."""
        found = msgspec.json.decode(
            await self._workers.ask(member, "GET", _upload(path, upload_id)), type=dict[str, Any]
        )
        return [part_of(part) for part in found["parts"]]

    async def list_uploads(self, member: Member, path: UfsPath) -> list[Upload]:
        """Return the uploads that are at this worker."""
        answer = await self._workers.ask(member, "GET", f"/v1/uploads?path={_quoted(path)}")
        return [upload_of(upload) for upload in msgspec.json.decode(answer)["uploads"]]


def info_json(info: ObjectInfo) -> dict[str, Any]:
    """Return an object as the data port shows it."""
    return {"key": info.key, "size": info.size, "etag": info.etag, "lastModified": info.last_modified}


def part_json(part: Part) -> dict[str, Any]:
    """Return a part as the data port shows it."""
    return {"number": part.number, "etag": part.etag, "size": part.size, "lastModified": part.last_modified}


def part_of(found: dict[str, Any]) -> Part:
    """Undo :func:`part_json`."""
    return Part(number=found["number"], etag=found["etag"], size=found["size"], last_modified=found["lastModified"])


def upload_json(upload: Upload) -> dict[str, Any]:
    """Return an upload as the data port shows it."""
    return {"path": upload.path, "upload": upload.id, "startedAt": upload.started_at}


def upload_of(found: dict[str, Any]) -> Upload:
    """Undo :func:`upload_json`."""
    return Upload(path=found["path"], id=found["upload"], started_at=found["startedAt"])


def _headers(condition: Condition) -> dict[str, str]:
    headers = {"If-None-Match": ANY} if condition.if_none_match else {}
    if condition.if_match is not None:
        headers["If-Match"] = ANY if condition.if_match == ANY else f'"{condition.if_match}"'
    return headers


def _info(answer: bytes) -> ObjectInfo:
    found = msgspec.json.decode(answer)
    return ObjectInfo(key=found["key"], size=found["size"], etag=found["etag"], last_modified=found["lastModified"])


def _quoted(path: UfsPath) -> str:
    return quote(str(path), safe="")


def _upload(path: UfsPath, upload_id: str, part: str = "") -> str:
    return f"/v1/uploads/{quote(upload_id, safe='')}{part}?path={_quoted(path)}"
