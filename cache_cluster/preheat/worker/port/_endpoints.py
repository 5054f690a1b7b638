"""What the data port answers: objects, listings and counters (see "A worker's data port" in the REST reference).

What is cached may be read by whoever reaches the port. The under store is asked on a reader's behalf for any ``s3://``
path that the worker's credentials reach, and for ``file://`` paths below the roots that the settings name: a worker
must not serve its machine's files because a URL asks for them. A symbolic link below a root is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from preheat.batch_read import BATCH, CONTENT_TYPE, decode_batch
from preheat.errors import AccessDenied, ObjectNotFound, PreheatError, StoreError, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject
from preheat.versions import ObjectInfo
from preheat.worker._freshness import NotCached, Wish, wished
from preheat.worker._ranges import asked_by
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ETags, ReadService
from preheat.worker.port import _http as http
from preheat.worker.port._access import Authorizer
from preheat.worker.port._alluxio import AlluxioWorker, methods_of, takes_body
from preheat.worker.port._answers import Parts, Stream
from preheat.worker.port._batch_read import BatchAnswer
from preheat.worker.port._health import Health
from preheat.worker.port._request_body import Intake
from preheat.worker.port._writes import WriteEndpoints, intake_of
from preheat.worker.port._writes import methods_of as write_methods_of
from preheat.worker.writes import WriteService


class Endpoints:
    """Answers requests from a read service.

    Args:
        reads: where objects come from.
        file_roots: absolute directories below which ``file://`` paths may be read from the disk.
        alluxio: answers Alluxio's clients; none leaves their endpoints out.
        authorizer: asked about each path of a batch; whatever else is asked for was checked before it comes here.
        writes: changes objects; none leaves that out.
        readiness: whether the worker takes part.
    """

    def __init__(
        self,
        reads: ReadService,
        *,
        file_roots: tuple[str, ...] = (),
        alluxio: AlluxioWorker | None = None,
        authorizer: Authorizer | None = None,
        writes: WriteService | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        self._reads = reads
        self._health = Health(reads, readiness or Readiness())
        self._authorizer = authorizer
        self._writes = WriteEndpoints(writes, authorizer=authorizer, may_copy=self._check_copied) if writes else None
        self._alluxio = alluxio
        self._file_roots = tuple(f"file://{root.rstrip('/')}/" for root in file_roots)

    def intake(self, method: str, target: str) -> Intake:
        """Return what becomes of the body of such a request."""
        if takes_body(method, target):
            return Intake.STREAMED
        if self._writes and (intake := intake_of(method, target)):
            return intake
        return Intake.HELD if method == "POST" and target == BATCH else Intake.REFUSED

    def problem(self, error: PreheatError, request: http.Request | None) -> http.Answer:  # noqa: ARG002 - all ports have it
        """Return how an error is told."""
        return http.problem_answer(error)

    def answer_now(self, request: http.Request) -> Parts | None:
        """Return the answer if no wait is needed: one page or less of a cached object, or the counters.

        Raises:
            PreheatError: the request cannot be answered.
        """
        if request.method not in (methods := self._methods(request.target)):
            raise http.MethodNotAllowed(
                f"{request.method} is not possible here.", remedy=f"Use {' or '.join(methods)}.", allow=methods
            )
        if self._writes and self._writes.answers(request):
            return None
        if request.target.startswith(http.DATA_PREFIX):
            return self._hit(request)
        if answer := self._health.answer(request.target):
            return (_encode(answer, request),)
        return None

    async def answer(self, request: http.Request) -> bytes | Stream:
        """Return the answer to a request that :meth:`answer_now` left.

        Raises:
            PreheatError: the request cannot be answered.
        """
        if self._writes and self._writes.answers(request):
            return _encode(await self._writes.answer(request), request)
        if request.target.startswith(http.DATA_PREFIX):
            return await self._object(request)
        if request.target == BATCH:
            return self._batch(request)
        if self._alluxio is not None and self._alluxio.answers(request.target):
            return await self._alluxio.answer(request, self._check_allowed)
        return _encode(await self._answer(request), request)

    async def _answer(self, request: http.Request) -> http.Answer:
        route, fields = http.split_target(request.target)
        if route == "/v1/stat":
            return await self._stat(http.path_parameter(fields), wished(request.headers))
        if route == "/v1/list":
            return await self._list(http.list_query(fields), wished(request.headers))
        if route == "/v1/cached":
            return self._list_cached(http.list_query(fields))
        raise http.unknown_target(request.target)

    def _methods(self, target: str) -> tuple[str, ...]:
        if target == BATCH:
            return ("POST",)
        if self._writes and target.startswith(http.DATA_PREFIX):
            return ("DELETE", "GET", "HEAD", "PUT")
        return methods_of(target) or (self._writes and write_methods_of(target)) or ("GET", "HEAD")

    def _hit(self, request: http.Request) -> Parts | None:
        path = http.data_path(request.target)
        accepted = http.accepted_etags(request.headers.get("if-match"))
        item = self._reads.servable(str(path), accepted, wished(request.headers))
        if item is None:
            return None
        part = http.slice_of(request, item)
        head = http.object_head(request, item, part, hit=True)
        if request.is_head:
            return (head,)
        return self._with_body(head, item, part) if part.length <= PAGE_SIZE else None

    def _with_body(self, head: bytes, item: CachedObject, part: http.Slice) -> Parts | None:
        try:
            return head, self._reads.read(item, part.start, part.end)
        except (StoreError, ObjectNotFound, VersionChanged):  # it went, or the disk fails: the long way deals with it
            return None

    async def _object(self, request: http.Request) -> bytes | Stream:
        path = http.data_path(request.target)
        accepted, wish = http.accepted_etags(request.headers.get("if-match")), wished(request.headers)
        if not await self._reads.has(path, accepted, wish):
            if wish.only_cached:
                raise NotCached(f"path='{path}' is not cached here in a version that would do.")
            self._check_allowed(path)
        if request.is_head:
            info, cached = await self._reads.stat(path, accepted, wish=wish)
            return http.object_head(request, info, http.slice_of(request, info), hit=cached)
        return await self._open(request, path, accepted, wish)

    async def _open(
        self, request: http.Request, path: UfsPath, accepted: ETags, wish: Wish, *, again: bool = True
    ) -> bytes | Stream:
        opened = await self._reads.open(path, accepted, asked=asked_by(request.headers.get("range")), wish=wish)
        part = http.slice_of(request, opened.info)
        head = http.object_head(request, opened.info, part, hit=opened.hit)
        if not part.length:
            return head
        pages = opened.pages(part.start, part.end)
        try:
            first = await anext(pages)
        except (VersionChanged, ObjectNotFound):  # it was replaced, or went, before its first page was read
            if accepted is not None or not again:
                raise
            return await self._open(request, path, accepted, wish, again=False)
        return Stream(head=head, length=part.length, first=first, rest=pages)

    def _batch(self, request: http.Request) -> Stream:
        authorization, batch = request.headers.get("authorization", ""), decode_batch(request.body)
        may_read = None
        if self._authorizer:
            grant = self._authorizer.grant(authorization)
            if not all(grant.plainly_covers(read.path) for read in batch.reads):
                may_read = partial(self._authorizer.check_read, authorization)
        wish = wished(request.headers)
        answer = BatchAnswer(self._reads, batch, wish=wish, may_read=may_read, may_fetch=self._check_allowed)
        head = http.chunked_head(CONTENT_TYPE, keep_alive=request.keep_alive)
        return Stream(head=head, length=None, first=b"", rest=answer.chunks())

    async def _stat(self, path: UfsPath, wish: Wish) -> http.Answer:
        if not await self._reads.has(path, wish=wish):
            self._check_allowed(path)
        info, cached = await self._reads.stat(path, wish=wish)
        return http.json_answer({**_as_json(info), "cached": cached})

    async def _list(self, query: http.ListQuery, wish: Wish) -> http.Answer:
        self._check_allowed(query.path)
        found = await self._reads.list(query.path, after=query.after, limit=query.limit, wish=wish)
        return _page([_as_json(info) for info in found], query)

    def _list_cached(self, query: http.ListQuery) -> http.Answer:
        found = self._reads.list_cached(query.path, after=query.after, limit=query.limit)
        return _page([_as_json(copy) | {"job": copy.job_id} for copy in found], query)

    def _check_copied(self, path: UfsPath) -> None:
        if not self._reads.policies.mounts.of(str(path)).name:  # what is mounted is shown to S3's clients, too
            self._check_allowed(path)

    def _check_allowed(self, path: UfsPath) -> None:
        if path.scheme == "file" and not f"{path}/".startswith(self._file_roots):
            raise AccessDenied(
                f"path='{path}' is neither cached nor below a directory that this worker may serve.",
                remedy="Preload it, or add its directory to the worker's file roots.",
            )


def _encode(answer: http.Answer, request: http.Request) -> bytes:
    return answer.encode(head_only=request.is_head, keep_alive=request.keep_alive)


def _page(found: Sequence[Mapping[str, str | int | float]], query: http.ListQuery) -> http.Answer:
    following = found[-1]["key"] if len(found) == query.limit else None
    return http.json_answer({"objects": found, "next": following})


def _as_json(info: ObjectInfo) -> dict[str, str | int | float]:
    return {"key": info.key, "size": info.size, "etag": info.etag, "lastModified": info.last_modified}
