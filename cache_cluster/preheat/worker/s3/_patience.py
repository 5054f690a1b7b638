"""Answers of operations that may take minutes, to clients that give a silent connection up.

As at S3, the answer begins after some seconds as a success, white space follows while the work goes on, and then the
document: of the result, or of the error, for the status is gone. What fails before is told by its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress

from preheat.errors import PreheatError
from preheat.logs import get_logger
from preheat.worker.port import Stream
from preheat.worker.port import _http as http
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3 import _xml as xml

log = get_logger("worker")
SILENT_SECONDS = 10.0
"""Until the answer begins, and between what is sent then: a sixth of what boto3 bears."""


async def patiently(request: http.Request, work: Coroutine[None, None, bytes]) -> bytes | Stream:
    """Return the answer with the document that some work ends with.

    Args:
        request: is answered.
        work: is done while the answer is under way; given up when the client leaves.

    Raises:
        PreheatError: the work failed before the answer began.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=SILENT_SECONDS)
    except asyncio.CancelledError:
        await _give_up(task)
        raise
    if done:
        return answers.document(task.result(), request)
    head = answers.document_head(request)
    return Stream(head=head, length=None, first=_chunk(xml.DECLARATION), rest=_rest(request, task))


async def _rest(request: http.Request, task: asyncio.Task[bytes]) -> AsyncIterator[bytes]:
    try:
        while not (await asyncio.wait({task}, timeout=SILENT_SECONDS))[0]:
            yield _chunk(b"\n")
        yield _chunk(_document_of(request, task).removeprefix(xml.DECLARATION)) + _chunk(b"")
    finally:
        await _give_up(task)


def _document_of(request: http.Request, task: asyncio.Task[bytes]) -> bytes:
    try:
        return task.result()
    except PreheatError as error:
        log.warning("What had begun as a success failed.", action="late_error", error=str(error), code=error.code)
        return answers.problem(error, request).body


async def _give_up(task: asyncio.Task[bytes]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, PreheatError):
        await task


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
