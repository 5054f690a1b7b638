"""Every error that Preheat raises on purpose.

PreheatError                          500
├── InvalidRequest (ValueError)       400  a field, its value, and what to write instead
│   ├── InvalidPath                   400
│   └── InvalidReceipt                     not one of this cluster's, or edited
├── Unauthenticated (PermissionError) 401  no token, or none that is known
├── Forbidden (PermissionError)       403  the token's role or path prefixes do not allow it
│   └── ReadOnly                           nobody may write below this path
├── AccessDenied (PermissionError)    403  credentials that the store refused
├── NotFound (FileNotFoundError)      404
│   ├── JobNotFound
│   ├── WorkerNotFound
│   ├── BucketNotFound
│   └── ObjectNotFound
├── Conflict                          409  another writer won, or the state does not allow it
│   └── VersionChanged                412  the bytes asked for belong to another version
├── DeadlineExceeded (TimeoutError)   504  it did not end in the time it was given
├── StoreError                        507  the page store
│   ├── StoreFull
│   ├── StoreInUse
│   └── CorruptPage
└── Unavailable (ConnectionError)     503  try again later
    ├── NoLiveWorker
    ├── Overloaded                         a worker takes no more of this now
    ├── EngineUnavailable
    ├── CoordinatorUnreachable
    └── OriginUnavailable             502  the under store does not answer, or answers 5xx
        ├── OriginThrottled           503  it asks to slow down
        └── OriginCorrupt             502  it sent bytes that do not match its own checksum

Vendor errors (botocore, obstore, nats, sqlite, aiohttp) become one of these at the seam of their adapter, with
the cause chained. A message names the value; ``remedy`` is the next step for the person who reads it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PreheatError(Exception):
    """Something failed inside Preheat."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    default_remedy: ClassVar[str] = "See the coordinator's and the workers' logs."

    def __init__(self, message: str, *, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def problem(self) -> dict[str, Any]:
        """Return the error as an RFC 9457 ``application/problem+json`` object."""
        return {
            "type": "about:blank",
            "title": type(self).__name__,
            "status": self.status,
            "code": self.code,
            "detail": self.message,
            "remedy": self.remedy,
            **self.details,
        }


class InvalidRequest(PreheatError, ValueError):
    """A field of the request has a value that cannot be used."""

    code = "invalid_request"
    status = 400
    default_remedy = ""


class InvalidPath(InvalidRequest):
    """A path is not a URI of an under store that Preheat knows."""

    code = "invalid_path"
    default_remedy = "Write s3://BUCKET/PREFIX or file:///ABSOLUTE/PATH."


class InvalidReceipt(InvalidRequest):
    """A receipt proves nothing: it is none, was edited, or another cluster signed it."""

    code = "invalid_receipt"
    default_remedy = "Get it anew with `preheat receipt show JOB`."


class Unauthenticated(PreheatError, PermissionError):
    """The request carries no token, or none that is valid now."""

    code = "unauthenticated"
    status = 401
    default_remedy = "Set PREHEAT_TOKEN to a valid token; an admin makes one with `preheat token create`."


class Forbidden(PreheatError, PermissionError):
    """The token is valid, and its role or its path prefixes do not allow this."""

    code = "forbidden"
    status = 403
    default_remedy = "Ask an admin for a token that may: `preheat token create --role ROLE --path PREFIX`."


class ReadOnly(Forbidden):
    """No mount lets objects below this path be written through the cache."""

    code = "read_only"
    default_remedy = "Let it be written: `preheat mount add NAME PATH --writes through`."


class AccessDenied(PreheatError, PermissionError):
    """The under store refused the credentials."""

    code = "access_denied"
    status = 403
    default_remedy = (
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE of the coordinator and the workers, "
        "and that the policy allows ListBucket and GetObject."
    )


class NotFound(PreheatError, FileNotFoundError):
    """What was asked for does not exist."""

    code = "not_found"
    status = 404
    default_remedy = ""


class JobNotFound(NotFound):
    """No job has this id, or it is older than the retention time."""

    code = "job_not_found"
    default_remedy = "List the known jobs with `preheat job ls`."


class WorkerNotFound(NotFound):
    """No worker has this id."""

    code = "worker_not_found"
    default_remedy = "List the workers with `preheat status`."


class BucketNotFound(NotFound):
    """The under store has no such bucket."""

    code = "bucket_not_found"
    default_remedy = "Check the bucket's name, and AWS_ENDPOINT_URL if it is not at AWS."


class ObjectNotFound(NotFound):
    """The under store has no such object, or nothing below the prefix."""

    code = "object_not_found"
    default_remedy = "Check the path; a prefix ends with a slash."


class Conflict(PreheatError):
    """The state of the resource does not allow this."""

    code = "conflict"
    status = 409
    default_remedy = ""


class VersionChanged(Conflict):
    """The object is no longer the version (etag, size) that was asked for."""

    code = "version_changed"
    status = 412
    default_remedy = "Preload the path again, then read the new version."


class DeadlineExceeded(PreheatError, TimeoutError):
    """The job did not end by its deadline."""

    code = "deadline_exceeded"
    status = 504
    default_remedy = "Start it earlier, raise its bandwidth, or add workers; what is cached stays."


class StoreError(PreheatError):
    """The page store cannot do this."""

    code = "store_error"
    status = 507


class StoreFull(StoreError):
    """The object does not fit into the page store, even after eviction."""

    code = "store_full"
    default_remedy = "Raise --capacity, add workers, or free cached data with `preheat fs free`."


class StoreInUse(StoreError):
    """Another process has the page store's directory open."""

    code = "store_in_use"
    default_remedy = "Stop the other worker, or give this one a --data-dir of its own."


class CorruptPage(StoreError):
    """A page's checksum does not match its bytes; the copy was dropped and will be fetched again."""

    code = "corrupt_page"
    status = 500
    retryable = True
    default_remedy = "The copy was dropped; read again."


class Unavailable(PreheatError, ConnectionError):
    """A part that is needed does not answer now."""

    code = "unavailable"
    status = 503
    retryable = True


class NoLiveWorker(Unavailable):
    """No worker has sent a heartbeat lately."""

    code = "no_live_worker"
    default_remedy = "Start one with `preheat up` or `preheat worker`, then submit again."


class Overloaded(Unavailable):
    """A worker has as much under way as it may, and takes no more until some of it has ended."""

    code = "overloaded"
    default_remedy = "Try again in a while, at a lower rate."


class EngineUnavailable(Unavailable):
    """NATS JetStream does not answer."""

    code = "engine_unavailable"
    default_remedy = "Check that nats-server runs: `preheat status`."


class CoordinatorUnreachable(Unavailable):
    """No coordinator answers at this URL."""

    code = "coordinator_unreachable"
    default_remedy = "Start one with `preheat up`, or set PREHEAT_COORDINATOR_URL to the one that runs."


class OriginUnavailable(Unavailable):
    """The under store does not answer, or answers with a server error."""

    code = "origin_unavailable"
    status = 502
    default_remedy = "Check AWS_ENDPOINT_URL and that the store can be reached from the workers."


class OriginThrottled(OriginUnavailable):
    """The under store asks for fewer requests (429, or 503 SlowDown).

    Args:
        message: as in every error.
        remedy: as in every error.
        retry_after: seconds after which it wants to be asked again; 0 if it does not say.
    """

    code = "origin_throttled"
    status = 503
    default_remedy = "The workers slow down by themselves; if it lasts, lower the job's bandwidth or ask for a quota."

    def __init__(self, message: str, *, remedy: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class OriginCorrupt(OriginUnavailable):
    """The bytes that the under store sent do not match the checksum that it keeps of the object."""

    code = "origin_corrupt"
    default_remedy = "Nothing of it was cached. If it happens again, the object or the way to it is damaged."


def from_problem(problem: dict[str, Any], status: int) -> PreheatError:
    """Rebuild the error that a Preheat server described as problem+json."""
    by_code = {cls.code: cls for cls in _tree(PreheatError)}
    error_type = by_code.get(str(problem.get("code")), PreheatError)
    message = str(problem.get("detail") or f"HTTP {status}")
    return error_type(message, remedy=str(problem.get("remedy") or ""))


def _tree(root: type[PreheatError]) -> list[type[PreheatError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]
