"""What the S3 port answers: each request is understood, its sender recognised, and the operation done.

A request that is refused is answered with S3's XML. Where nobody is asked for a signature, signed requests and plain
ones are let in alike; a body in the form ``aws-chunked`` is decoded either way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache

from preheat.errors import PreheatError
from preheat.mounts import MountTable
from preheat.paths import UfsPath
from preheat.ufs import BucketLister
from preheat.worker._forward import Forward
from preheat.worker._freshness import wished
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.port import Intake, Parts, Stream
from preheat.worker.port import _http as http
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3._access import Access, check_read
from preheat.worker.s3._buckets import Buckets
from preheat.worker.s3._conditions import has_conditions
from preheat.worker.s3._objects import Objects
from preheat.worker.s3._operations import Operation, operation_of, parse_target
from preheat.worker.s3._requests import S3Request
from preheat.worker.s3._uploading import Uploading
from preheat.worker.s3._writes import Writes
from preheat.worker.s3._writing import Writing

OfBucket = Callable[[S3Request], Awaitable[bytes]]
OfObject = Callable[[S3Request, UfsPath], Awaitable[bytes | Stream]]
_PLAIN_FIELDS = frozenset({"x-id"})
"""Parameters that change nothing; some clients send them with every request."""
_STREAMED = ("PUT", "POST")
"""Whose bodies are not read before their sender is known."""


class S3Endpoints:
    """Answers requests of S3 clients.

    Args:
        reads: this worker's store.
        forward: finds what belongs to other workers.
        writes: writes.
        policies: knows the mounts, which are the buckets.
        lister: names the under store's buckets, where there are no mounts.
        access: recognises senders.
    """

    def __init__(
        self,
        reads: ReadService,
        *,
        forward: Forward,
        writes: Writes,
        policies: Policies,
        lister: BucketLister,
        access: Access,
    ) -> None:
        self._reads = reads
        self._policies = policies
        self._access = access
        self._objects = Objects(reads, forward)
        buckets, writing = Buckets(reads, policies, lister), Writing(writes, forward, self._resolve)
        uploading = Uploading(writes, writing, forward, self._resolve)
        self._of_bucket: dict[Operation, OfBucket] = {
            Operation.LIST_BUCKETS: buckets.list_buckets,
            Operation.HEAD_BUCKET: buckets.head,
            Operation.CREATE_BUCKET: buckets.create,
            Operation.GET_BUCKET_LOCATION: buckets.location,
            Operation.GET_BUCKET_VERSIONING: buckets.versioning,
            Operation.LIST_OBJECTS: buckets.list,
            Operation.LIST_MULTIPART_UPLOADS: uploading.list_uploads,
            Operation.DELETE_OBJECTS: writing.delete_many,
        }
        self._of_object: dict[Operation, OfObject] = {
            Operation.GET_OBJECT: self._get,
            Operation.HEAD_OBJECT: self._head,
            Operation.PUT_OBJECT: writing.put,
            Operation.COPY_OBJECT: writing.copy,
            Operation.DELETE_OBJECT: writing.delete,
            Operation.CREATE_MULTIPART_UPLOAD: uploading.create,
            Operation.UPLOAD_PART: uploading.part,
            Operation.UPLOAD_PART_COPY: uploading.part_copy,
            Operation.COMPLETE_MULTIPART_UPLOAD: uploading.complete,
            Operation.ABORT_MULTIPART_UPLOAD: uploading.abort,
            Operation.LIST_PARTS: uploading.list_parts,
        }

    def intake(self, method: str, target: str) -> Intake:  # noqa: ARG002 - all ports have it
        """Return what becomes of the body of such a request."""
        return Intake.STREAMED if method in _STREAMED else Intake.REFUSED

    def problem(self, error: PreheatError, request: http.Request | None) -> http.Answer:
        """Return how an error is told."""
        return answers.problem(error, request)

    def answer_now(self, request: http.Request) -> Parts | None:
        """Return the answer to a plain request for a copy of this worker's, if that is at most one page.

        Raises:
            PreheatError: the request cannot be answered.
        """
        target = parse_target(request.target)
        if request.method not in ("GET", "HEAD") or not (target.key and target.fields.keys() <= _PLAIN_FIELDS):
            return None
        path, uri = _resolved(self._policies.mounts, target.bucket, target.key)
        if self._reads.lookup(uri) is None or has_conditions(request.headers):
            return None
        check_read(self._access.sender(request), path)
        accepted = http.accepted_etags(request.headers.get("if-match"))
        item = self._reads.servable(uri, accepted, wished(request.headers))
        return None if item is None else self._objects.hit(request, item)

    async def answer(self, request: http.Request) -> bytes | Stream:
        """Return the answer to a request that :meth:`answer_now` left.

        Raises:
            PreheatError: the request cannot be answered.
        """
        target = parse_target(request.target)
        sender = self._access.sender(request)
        operation = operation_of(request.method, target, request.headers)
        understood = S3Request(http=request, target=target, sender=sender)
        if operation in self._of_bucket:
            return await self._of_bucket[operation](understood)
        return await self._of_object[operation](understood, self._resolve(target.bucket, target.key))

    async def _get(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        check_read(request.sender, path)
        return await self._objects.get(request, path)

    async def _head(self, request: S3Request, path: UfsPath) -> bytes:
        check_read(request.sender, path)
        return await self._objects.head(request, path)

    def _resolve(self, bucket: str, key: str) -> UfsPath:
        return _resolved(self._policies.mounts, bucket, key)[0]


@lru_cache(maxsize=16384)
def _resolved(mounts: MountTable, bucket: str, key: str) -> tuple[UfsPath, str]:
    """Return the path of an object and its URI; raises as ``MountTable.resolve``."""
    path = mounts.resolve(bucket, key)
    return path, str(path)
