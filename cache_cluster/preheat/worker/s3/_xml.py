"""The XML of S3's answers.

XML 1.0 cannot say every character that a key may have. As at S3, a client that may meet such keys asks for
``encoding-type=url``; without it they are written as character references, which its parser may refuse.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from preheat.versions import ObjectInfo
from preheat.worker.s3._errors import Fault
from preheat.worker.s3._listing import ListPage, ListQuery

CONTENT_TYPE = "application/xml"
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
"""With which each document begins."""
_SPECIAL = re.compile('[&<>"\x00-\x1f\x7f-\x9f\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_OWNER = "<Owner><ID>preheat</ID><DisplayName>preheat</DisplayName></Owner>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of an upload, as ListParts shows it."""

    number: int
    etag: str
    size: int
    last_modified: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An upload under way, as ListMultipartUploads shows it."""

    key: str
    upload_id: str
    initiated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedDeletion:
    """A key that DeleteObjects could not remove."""

    key: str
    fault: Fault


def error(fault: Fault, *, resource: str, request_id: str) -> bytes:
    """Return what says that a request failed."""
    fields = {"Code": fault.code, "Message": fault.message, **fault.details}
    fields |= {"Resource": resource, "RequestId": request_id}
    return _document("Error", "".join(_element(name, value) for name, value in fields.items()), namespace="")


def list_buckets(buckets: Iterable[tuple[str, float]]) -> bytes:
    """Return the names of buckets, and when they were made in seconds since the epoch."""
    shown = "".join(
        f"<Bucket>{_element('Name', name)}<CreationDate>{_moment(created)}</CreationDate></Bucket>"
        for name, created in buckets
    )
    return _document("ListAllMyBucketsResult", f"{_OWNER}<Buckets>{shown}</Buckets>")


def location(region: str) -> bytes:
    """Return a bucket's region, which S3 leaves empty for ``us-east-1``."""
    name = "" if region == "us-east-1" else _escaped(region)
    return _document("LocationConstraint", name)


def versioning() -> bytes:
    """Return what says that a bucket keeps no versions."""
    return _document("VersioningConfiguration", "")


def listing(query: ListQuery, page: ListPage, *, bucket: str) -> bytes:
    """Return a page of ListObjectsV2 or ListObjects."""
    shown = _url_encoded if query.url_encoded else _escaped
    contents = "".join([_content(item, shown(item.key), owner=query.fetch_owner) for item in page.objects])
    groups = "".join(f"<CommonPrefixes><Prefix>{shown(group)}</Prefix></CommonPrefixes>" for group in page.groups)
    optional = [
        ("Delimiter", shown(query.delimiter) if query.delimiter else ""),
        ("EncodingType", "url" if query.url_encoded else ""),
    ]
    if query.version == 2:
        optional += [
            ("StartAfter", shown(query.start_after)),
            ("ContinuationToken", _escaped(query.token)),
            ("NextContinuationToken", page.next_token if page.truncated else ""),
        ]
        always = f"<KeyCount>{len(page.objects) + len(page.groups)}</KeyCount>"
    else:
        optional.append(("NextMarker", shown(page.next_after)))
        always = f"<Marker>{shown(query.start_after)}</Marker>"
    head = (
        f"{_element('Name', bucket)}<Prefix>{shown(query.prefix)}</Prefix><MaxKeys>{query.max_keys}</MaxKeys>"
        f"{always}<IsTruncated>{_boolean(page.truncated)}</IsTruncated>"
        + "".join(f"<{name}>{value}</{name}>" for name, value in optional if value)
    )
    return _document("ListBucketResult", head + contents + groups)


def upload_created(*, bucket: str, key: str, upload_id: str) -> bytes:
    """Return the answer to CreateMultipartUpload."""
    fields = _element("Bucket", bucket) + _element("Key", key) + _element("UploadId", upload_id)
    return _document("InitiateMultipartUploadResult", fields)


def upload_completed(*, url: str, bucket: str, key: str, etag: str) -> bytes:
    """Return the answer to CompleteMultipartUpload."""
    fields = {"Location": url, "Bucket": bucket, "Key": key, "ETag": f'"{etag}"'}
    return _document("CompleteMultipartUploadResult", "".join(_element(name, value) for name, value in fields.items()))


def object_copied(*, etag: str, last_modified: float, part: bool = False) -> bytes:
    """Return the answer to CopyObject, or to UploadPartCopy."""
    fields = f"<LastModified>{_moment(last_modified)}</LastModified>" + _element("ETag", f'"{etag}"')
    return _document("CopyPartResult" if part else "CopyObjectResult", fields)


def objects_deleted(keys: Iterable[str], failed: Iterable[FailedDeletion] = ()) -> bytes:
    """Return the answer to DeleteObjects; a quiet one names no deleted keys."""
    shown = [f"<Deleted>{_element('Key', key)}</Deleted>" for key in keys]
    for item in failed:
        fields = {"Key": item.key, "Code": item.fault.code, "Message": item.fault.message}
        shown.append(f"<Error>{''.join(_element(name, value) for name, value in fields.items())}</Error>")
    return _document("DeleteResult", "".join(shown))


def parts(found: Sequence[Part], *, bucket: str, key: str, upload_id: str, after: int, limit: int) -> bytes:
    """Return the parts of an upload whose number is greater than ``after``, ``limit`` of them at most."""
    rest = [part for part in found if part.number > after]
    page, truncated = rest[:limit], len(rest) > limit
    head = {
        "Bucket": bucket,
        "Key": key,
        "UploadId": upload_id,
        "PartNumberMarker": str(after),
        "NextPartNumberMarker": str(page[-1].number if page else after),
        "MaxParts": str(limit),
        "IsTruncated": _boolean(truncated),
    }
    shown = (
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{_moment(part.last_modified)}</LastModified>"
        f"{_element('ETag', _quoted(part.etag))}<Size>{part.size}</Size></Part>"
        for part in page
    )
    fields = "".join(_element(name, value) for name, value in head.items())
    return _document("ListPartsResult", f"{fields}<StorageClass>STANDARD</StorageClass>{''.join(shown)}")


def uploads(found: Iterable[Upload], *, bucket: str, prefix: str = "", url_encoded: bool = False) -> bytes:
    """Return the uploads of a bucket that are under way, all in one page."""
    shown = _url_encoded if url_encoded else _escaped
    items = [
        f"<Upload><Key>{shown(item.key)}</Key>{_element('UploadId', item.upload_id)}"
        f"<StorageClass>STANDARD</StorageClass><Initiated>{_moment(item.initiated)}</Initiated></Upload>"
        for item in found
    ]
    encoding = "<EncodingType>url</EncodingType>" if url_encoded else ""
    head = (
        f"{_element('Bucket', bucket)}<KeyMarker/><UploadIdMarker/><Prefix>{shown(prefix)}</Prefix>"
        f"<MaxUploads>{max(1000, len(items))}</MaxUploads>{encoding}<IsTruncated>false</IsTruncated>"
    )
    return _document("ListMultipartUploadsResult", head + "".join(items))


def _content(item: ObjectInfo, key: str, *, owner: bool) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{_moment(int(item.last_modified))}</LastModified>"
        f"<ETag>&quot;{_escaped(item.etag)}&quot;</ETag><Size>{item.size}</Size>"
        f"<StorageClass>STANDARD</StorageClass>{_OWNER if owner else ''}</Contents>"
    )


def _document(name: str, content: str, *, namespace: str = _NAMESPACE) -> bytes:
    return DECLARATION + f"<{name}{namespace}>{content}</{name}>".encode()


def _element(name: str, value: str) -> str:
    return f"<{name}>{_escaped(value)}</{name}>"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(_reference, text) if _SPECIAL.search(text) else text


def _reference(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"&#x{ord(match[0]):X};"


def _url_encoded(text: str) -> str:
    return quote(text, safe="/")


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _boolean(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "true" if value else "false"


@lru_cache(maxsize=4096)
def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
