"""Writes by the workers' data ports, each of which writes to the under store as the path's mount says."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from preheat.fs._transport import Request, Transport
from preheat.paths import UfsPath

Body = bytes | bytearray | memoryview
_ONLY_NEW = {"If-None-Match": "*"}


class _Upload(msgspec.Struct, frozen=True):
    upload: str


class _Part(msgspec.Struct, frozen=True):
    etag: str


class Writer:
    """Writes objects; errors are those of :mod:`preheat.errors`, Forbidden where the mount is read-only.

    A write goes to the worker that the object will be read from. What may be repeated is repeated elsewhere if that
    worker breaks off.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, path: UfsPath, body: Body, *, only_new: bool = False) -> None:
        """Write a whole object.

        Raises:
            VersionChanged: it exists, and ``only_new``.
        """
        await self._send(
            "PUT", path, f"/v1/data/{path.url_path}", body, headers=_ONLY_NEW if only_new else {}, again=not only_new
        )

    async def delete(self, path: UfsPath) -> None:
        """Delete an object.

        Raises:
            ObjectNotFound: there is none.
        """
        await self._send("DELETE", path, f"/v1/data/{path.url_path}")

    async def copy(self, source: UfsPath, target: UfsPath) -> None:
        """Write a copy of an object, without its bytes coming here.

        Raises:
            ObjectNotFound: there is no such source.
        """
        await self._send("POST", target, f"/v1/copy?{urlencode({'path': str(source), 'target': str(target)})}")

    async def create_upload(self, path: UfsPath) -> str:
        """Begin to write an object in parts, and return the upload's id."""
        return msgspec.json.decode(await self._send("POST", path, f"/v1/uploads?{_of(path)}"), type=_Upload).upload

    async def upload_part(self, path: UfsPath, upload_id: str, number: int, body: Body) -> str:
        """Send a part, numbered from 1, and return its etag."""
        target = f"/v1/uploads/{quote(upload_id, safe='')}/{number}?{_of(path)}"
        return msgspec.json.decode(await self._send("PUT", path, target, body), type=_Part).etag

    async def complete_upload(
        self, path: UfsPath, upload_id: str, etags: dict[int, str], *, only_new: bool = False
    ) -> None:
        """Make the object out of its parts.

        Raises:
            VersionChanged: it exists, and ``only_new``.
        """
        parts = [{"number": number, "etag": etag} for number, etag in sorted(etags.items())]
        body = msgspec.json.encode({"parts": parts})
        headers = _ONLY_NEW if only_new else {}
        await self._send("POST", path, _upload(path, upload_id), body, headers=headers, again=False)

    async def abort_upload(self, path: UfsPath, upload_id: str) -> None:
        """Give the parts up."""
        await self._send("DELETE", path, _upload(path, upload_id))

    async def _send(
        self,
        method: str,
        path: UfsPath,
        target: str,
        body: Body = b"",
        *,
        headers: dict[str, str] | None = None,
        again: bool = True,
    ) -> bytes:
        request = Request(
            path=str(path), target=target, method=method, headers=headers or {}, body=body, repeatable=again
        )
        return await self._transport.call(request, _answer)


def _of(path: UfsPath) -> str:
    return urlencode({"path": str(path)})


def _upload(path: UfsPath, upload_id: str) -> str:
    return f"/v1/uploads/{quote(upload_id, safe='')}?{_of(path)}"


async def _answer(response: aiohttp.ClientResponse) -> bytes:
    return await response.read()
