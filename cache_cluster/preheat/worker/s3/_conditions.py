"""The conditions of reads and of copies. Pure.

``If-Match`` chooses the version that is read, see the read service. The others are in RFC 9110's order (13.2.2): a date
counts only where no etag was sent for the same question. Of dates whole seconds count; one that is none is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from preheat.versions import ObjectInfo
from preheat.worker.port import _http as http
from preheat.worker.s3._errors import S3Error

_COPY = "x-amz-copy-source-"
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


def has_conditions(headers: Mapping[str, str]) -> bool:
    """Whether a request depends on what the object is now, other than by ``If-Match``."""
    return not _CONDITIONS.isdisjoint(headers) and _CONDITIONS & headers.keys() != {"if-match"}


def is_unmodified(headers: Mapping[str, str], info: ObjectInfo | http.Version) -> bool:
    """Whether a reader has this version already, so that 304 is the answer.

    Raises:
        S3Error: PreconditionFailed; the object changed since the date of ``If-Unmodified-Since``.
    """
    since = _date(headers.get("if-unmodified-since"))
    if since is not None and "if-match" not in headers and int(info.last_modified) > since:
        raise _failed("If-Unmodified-Since")
    known = headers.get("if-none-match")
    if known is not None:
        return http.names(known, info.etag)
    since = _date(headers.get("if-modified-since"))
    return since is not None and int(info.last_modified) <= since


def check_source(headers: Mapping[str, str], info: ObjectInfo) -> None:
    """Check the conditions of a copy.

    Raises:
        S3Error: PreconditionFailed; one of them does not hold.
    """
    conditions = {name.removeprefix(_COPY): value for name, value in headers.items() if name.startswith(_COPY)}
    wanted = conditions.get("if-match")
    if wanted is not None and not http.names(wanted, info.etag):
        raise _failed("x-amz-copy-source-If-Match")
    if is_unmodified(conditions, info):
        raise _failed("x-amz-copy-source-If-None-Match or -If-Modified-Since")


def _date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None


def _failed(condition: str) -> S3Error:
    return S3Error("PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {condition}.")
