"""What S3, botocore and obstore call an error, and what Preheat calls it.

Messages name the path, the endpoint's host and port, and S3's error code: never a response's text, which on AWS quotes
the access key and the signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from urllib3.exceptions import HTTPError

from preheat.errors import (
    AccessDenied,
    BucketNotFound,
    Conflict,
    InvalidPath,
    InvalidRequest,
    ObjectNotFound,
    OriginThrottled,
    OriginUnavailable,
    PreheatError,
    VersionChanged,
)
from preheat.paths import UfsPath, has_relative_part

_CREDENTIAL_ERRORS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
_CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for the coordinator and the workers."
)
_REFUSED_CODES = {
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_BUCKET_CODES = {"InvalidBucketName", "NoSuchBucket"}
_NAME_CODES = {"KeyTooLongError", "XMinioInvalidObjectName", "XMinioInvalidResourceName"}
_IN_THE_WAY_CODES = {"XMinioObjectExistsAsDirectory", "XMinioParentIsObject"}
_THROTTLED_CODES = {"RequestLimitExceeded", "RequestThrottled", "SlowDown", "Throttling", "TooManyRequests"}
_CODES: dict[str, type[PreheatError]] = {
    **dict.fromkeys(_BUCKET_CODES, BucketNotFound),
    **dict.fromkeys(_REFUSED_CODES, AccessDenied),
    **dict.fromkeys(_NAME_CODES, InvalidPath),
    **dict.fromkeys(_IN_THE_WAY_CODES, Conflict),
    **dict.fromkeys(_THROTTLED_CODES, OriginThrottled),
}
_REDIRECTS = {HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.TEMPORARY_REDIRECT}
_STATUSES: dict[int, type[PreheatError]] = {
    HTTPStatus.UNAUTHORIZED: AccessDenied,
    HTTPStatus.FORBIDDEN: AccessDenied,
    HTTPStatus.NOT_FOUND: ObjectNotFound,
    HTTPStatus.PRECONDITION_FAILED: VersionChanged,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: InvalidRequest,
    HTTPStatus.TOO_MANY_REQUESTS: OriginThrottled,
    HTTPStatus.SERVICE_UNAVAILABLE: OriginThrottled,
}
_MEANINGS: dict[type[PreheatError], str] = {
    AccessDenied: "the credentials were refused; ",
    BucketNotFound: "there is no such bucket; ",
    Conflict: "an object cannot stand there beside what does; ",
    InvalidPath: "the server allows no such key; ",
    InvalidRequest: "the object has no such bytes; ",
    ObjectNotFound: "there is no such object; ",
    OriginThrottled: "it is asked too much; ",
    OriginUnavailable: "",
    VersionChanged: "it is not the version that was asked for any more; ",
}
_WRITE_REMEDY = (
    "Check the credentials of the workers, and that the policy allows PutObject and AbortMultipartUpload at the target "
    "and, for a move, DeleteObject at the source."
)
_REGION_CODES = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_OBSTORE_STATUS = {
    FileNotFoundError: 404,
    PermissionDeniedError: 403,
    UnauthenticatedError: 401,
    PreconditionError: 412,
}
_OBSTORE_ERROR_STATUS = re.compile(r"status code: (\d{3})")
_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")


def host_and_port(endpoint: str) -> str:
    """Return the part of an endpoint's URL that may stand in a message."""
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"


@contextmanager
def botocore_errors(path: UfsPath, endpoint: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what boto3 raises inside into Preheat's errors; nothing else may run inside."""
    try:
        yield
    except (BotoCoreError, ClientError, HTTPError, SyntaxError, ValueError) as error:
        raise _advised(from_botocore(error, path, endpoint), writing=writing) from error


@contextmanager
def obstore_errors(path: UfsPath, endpoint: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what obstore raises inside into Preheat's errors; nothing else may run inside."""
    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        mapped = _advised(from_obstore(error, path, endpoint), writing=writing)
        if isinstance(mapped, AccessDenied):
            raise mapped from None  # the cause quotes the answer: on AWS the access key and the signature
        raise mapped from error


def from_botocore(error: Exception, path: UfsPath, endpoint: str) -> PreheatError:
    """Return Preheat's error for one that boto3 raised."""
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return from_answer(path, endpoint, status, str(error.response.get("Error", {}).get("Code", "")))
    if isinstance(error, _CREDENTIAL_ERRORS):
        return _no_credentials(error, path)
    if isinstance(error, ParamValidationError):
        return from_answer(path, endpoint, 400, "InvalidBucketName")
    if isinstance(error, BotoCoreError):
        return unreachable(path, endpoint)
    return OriginUnavailable(f"path='{path}': the S3 endpoint {host_and_port(endpoint)} sent no S3 answer.")


def from_obstore(error: Exception, path: UfsPath, endpoint: str) -> PreheatError:
    """Return Preheat's error for one that obstore raised; it says what it knows only in its text."""
    text = str(error)
    found = _OBSTORE_ERROR_STATUS.search(text)
    status = int(found[1]) if found else _OBSTORE_STATUS.get(type(error), 0)
    return from_answer(path, endpoint, status, error_code(text)) if status else unreachable(path, endpoint)


def error_code(text: str) -> str:
    """Return S3's code in an answer's body; empty if there is none."""
    found = _ERROR_CODE.search(text)
    return found[1] if found else ""


def from_answer(path: UfsPath, endpoint: str, status: int, code: str) -> PreheatError:
    """Return the error for an answer's HTTP status and S3 code (empty if it had no body)."""
    answer = f"the S3 endpoint {host_and_port(endpoint)} answered {status} {code.removeprefix(str(status))}".rstrip()
    if code in _REGION_CODES or status in _REDIRECTS:
        return OriginUnavailable(f"path='{path}': {answer}.", remedy="Set AWS_REGION to the bucket's region.")
    kind = _kind(status, code)
    if kind is OriginUnavailable and status == HTTPStatus.BAD_REQUEST and has_relative_part(path.key):
        kind = InvalidPath  # each server has a code of its own for that, and a HEAD has none
    return kind(f"path='{path}': {_MEANINGS[kind]}{answer}.")


def _advised(error: PreheatError, *, writing: bool) -> PreheatError:
    """Say what a write needs, if it was refused for another reason than that there are no credentials."""
    if writing and error.remedy == AccessDenied.default_remedy:
        error.remedy = _WRITE_REMEDY
    return error


def _kind(status: int, code: str) -> type[PreheatError]:
    return _CODES.get(code) or _STATUSES.get(status, OriginUnavailable)


def unreachable(path: UfsPath, endpoint: str) -> OriginUnavailable:
    """Return the error of an endpoint that refuses connections, has no address, or stays silent."""
    return OriginUnavailable(f"path='{path}': the S3 endpoint {host_and_port(endpoint)} does not answer.")


def malformed_endpoint(path: UfsPath) -> OriginUnavailable:
    """Return the error of an endpoint that is not a URL."""
    return OriginUnavailable(
        f"path='{path}': the S3 endpoint is not a URL.",
        remedy="Write AWS_ENDPOINT_URL as http://HOST:PORT or https://HOST.",
    )


def _no_credentials(error: BotoCoreError, path: UfsPath) -> AccessDenied:
    # Others may quote what a metadata service or a credential process printed.
    reason = str(error).rstrip(".") if isinstance(error, ProfileNotFound | PartialCredentialsError) else "none found"
    return AccessDenied(f"path='{path}' needs AWS credentials: {reason}.", remedy=_CREDENTIALS_REMEDY)
