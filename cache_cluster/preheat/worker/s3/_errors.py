"""Errors as S3 names them: what its clients decide by is the code, and whether the status is worth another try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from preheat import errors
from preheat.errors import PreheatError
from preheat.worker._freshness import NotCached
from preheat.worker.port import _http as http

STATUS = MappingProxyType(
    {
        "AccessDenied": 403,
        "AuthorizationHeaderMalformed": 400,
        "AuthorizationQueryParametersError": 400,
        "BadDigest": 400,
        "BucketAlreadyOwnedByYou": 409,
        "EntityTooLarge": 400,
        "EntityTooSmall": 400,
        "IncompleteBody": 400,
        "InsufficientStorage": 507,
        "InternalError": 500,
        "InvalidAccessKeyId": 403,
        "InvalidArgument": 400,
        "InvalidDigest": 400,
        "InvalidPart": 400,
        "InvalidPartNumber": 416,
        "InvalidPartOrder": 400,
        "InvalidRange": 416,
        "InvalidRequest": 400,
        "InvalidURI": 400,
        "KeyTooLongError": 400,
        "MalformedTrailerError": 400,
        "MalformedXML": 400,
        "MethodNotAllowed": 405,
        "MissingContentLength": 411,
        "NoSuchBucket": 404,
        "NoSuchKey": 404,
        "NoSuchUpload": 404,
        "NotImplemented": 501,
        "NotModified": 304,
        "OperationAborted": 409,
        "PreconditionFailed": 412,
        "RequestHeaderSectionTooLarge": 400,
        "RequestTimeTooSkewed": 403,
        "ServiceUnavailable": 503,
        "SignatureDoesNotMatch": 403,
        "SlowDown": 503,
        "XAmzContentSHA256Mismatch": 400,
    }
)
"""The HTTP status of each code, as S3 has it."""

_CODES: tuple[tuple[type[PreheatError], str], ...] = (
    (errors.BucketNotFound, "NoSuchBucket"),
    (errors.NotFound, "NoSuchKey"),
    (errors.VersionChanged, "PreconditionFailed"),
    (errors.Conflict, "OperationAborted"),
    (errors.Unauthenticated, "AccessDenied"),
    (errors.Forbidden, "AccessDenied"),
    (errors.AccessDenied, "AccessDenied"),
    (errors.StoreFull, "InsufficientStorage"),
    (errors.OriginThrottled, "SlowDown"),
    (errors.Overloaded, "SlowDown"),
    (errors.Unavailable, "ServiceUnavailable"),
    (errors.DeadlineExceeded, "ServiceUnavailable"),
    (NotCached, "ServiceUnavailable"),
    (http.UnsatisfiableRange, "InvalidRange"),
    (http.MethodNotAllowed, "MethodNotAllowed"),
    (http.HeadTooLarge, "RequestHeaderSectionTooLarge"),
    (http.BodyTooLarge, "EntityTooLarge"),
    (errors.InvalidPath, "InvalidURI"),
    (errors.InvalidRequest, "InvalidRequest"),
)
"""By the first type that fits."""


class S3Error(PreheatError):
    """A request that is refused with a code of S3's.

    Args:
        s3_code: one of :data:`STATUS`.
        message: as in every error.
        remedy: as in every error.
        details: what the answer's XML names besides, such as ``Key``.
    """

    code = "s3_refused"
    status = 400
    default_remedy = ""

    def __init__(self, s3_code: str, message: str, *, remedy: str = "", **details: str) -> None:
        super().__init__(message, remedy=remedy, **details)
        self.s3_code = s3_code


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What an answer says of an error."""

    code: str
    status: int
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    """Further elements of its XML."""


def fault_of(error: PreheatError) -> Fault:
    """Return how S3 would name an error."""
    details: Mapping[str, str] = {}
    if isinstance(error, S3Error):
        code, details = error.s3_code, error.details
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "InternalError")
    if isinstance(error, http.UnsatisfiableRange) and "size" in error.details:
        details = {"ActualObjectSize": str(error.details["size"])}  # by which AWS's clients know an empty object
    return Fault(code=code, status=STATUS[code], message=str(error), details=details)
