"""One page of ListObjectsV2, parsed many times as fast as boto3 does it.

obstore lists as quickly, but its keys are paths: it shows ``dir/`` as ``dir``, and one key with an empty segment or a
control character fails the whole listing. So requests are ours or boto3's, and the answers are parsed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import unescape

from preheat.versions import ObjectInfo

_BODY = "PreheatBody"
_FIELDS = ("Key", "Size", "ETag", "LastModified")
_QUOTE = '(?:&#34;|&quot;|")?'
"""Servers in Go write the first one."""
_COLUMNS = [
    re.compile(f'<ETag>{_QUOTE}([^<&"]*){_QUOTE}</ETag>' if name == "ETag" else f"<{name}>([^<]*)</{name}>")
    for name in _FIELDS
]
_PREFIX = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>\s*</CommonPrefixes>")
_PLAIN_START = re.compile(
    rb"""\s*(?:<\?xml version=["']1\.0["'](?: encoding=["']utf-8["'])?\s*\?>)?\s*<ListBucketResult[ >]""", re.IGNORECASE
)
_PLAIN_END = b"</ListBucketResult>"
_QUOTES = {"&quot;": '"', "&apos;": "'"}
_TRUNCATED = re.compile(rb"<(?:\w+:)?IsTruncated>\s*true\s*<")
_TOKEN = re.compile(rb"<(?:\w+:)?NextContinuationToken>([^<]*)<")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingPage:
    """What one answer to ListObjectsV2 says."""

    objects: Sequence[ObjectInfo]
    prefixes: Sequence[str]
    """Common prefixes, if a delimiter was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer to ListObjectsV2 of which no more is read than where the next page begins."""

    body: bytes
    token: str | None
    """None on the last page."""
    server: str
    """What the server calls itself."""
    seconds: float = 0.0
    """How long it took."""


def leave_unparsed(client: Any) -> None:
    """Make a boto3 client leave listings to :func:`answer_of`.

    The wildcard brings it before botocore's look for an error in the body, which would parse the page as well.
    """
    client.meta.events.register_first("before-parse.*.ListObjectsV2", _take_body)


def answer_of(response: dict[str, Any]) -> Answer:
    """Return the answer in a response of a client after :func:`leave_unparsed`.

    Raises:
        ValueError: as :func:`read_answer`.
    """
    return read_answer(response.get(_BODY, b""), response["ResponseMetadata"]["HTTPHeaders"].get("server", ""))


def read_answer(body: bytes, server: str) -> Answer:
    """Return the answer with this body.

    Raises:
        ValueError: it is truncated and does not say where it goes on.
    """
    # What is looked for stands before the objects or behind them.
    frame = body[: body.find(b"<Contents>") + 1] + body[body.rfind(b"</Contents>") :] if b"<Contents>" in body else body
    truncated, token = _TRUNCATED.search(frame), _TOKEN.search(frame)
    if truncated and not token:
        raise ValueError("A truncated listing does not say where it goes on.")
    return Answer(body=body, token=unescape(token[1].decode()) if truncated and token else None, server=server)


def is_error(status: int, body: bytes) -> bool:
    """Whether S3 answered with an error, which may come with the status of a success."""
    return status != HTTPStatus.OK or b"<Error>" in body[:1000]


def parse_page(body: bytes) -> ListingPage:
    """Read the XML of an answer.

    Raises:
        xml.etree.ElementTree.ParseError, ValueError: it is not a listing.
    """
    plain = _PLAIN_START.match(body) and body.rstrip().endswith(_PLAIN_END)
    return (_scanned(body.decode()) if plain else None) or _parsed(body)


def _scanned(text: str) -> ListingPage | None:
    """Read a page as servers write it, in a fifth of the parser's time; None of a page that holds something else."""
    if "!" in text and "<!" in text:  # a comment, or CDATA
        return None
    columns = [pattern.findall(text) for pattern in _COLUMNS]
    prefixes = _PREFIX.findall(text)
    if {text.count("<Contents>")} != {len(column) for column in columns}:
        return None
    if text.count("<CommonPrefixes>") != len(prefixes):
        return None
    names = "".join([*columns[0], *prefixes])
    if "&#" in names:
        return None
    if "&" in names:
        columns[0], prefixes = ([unescape(name, _QUOTES) for name in column] for column in (columns[0], prefixes))
    decode = _unquote if "<EncodingType>url</EncodingType>" in text else None
    return _page(columns, prefixes, decode)


def _parsed(body: bytes) -> ListingPage:
    root = ET.fromstring(body)  # noqa: S314 - botocore parses the same bytes with the same parser
    namespace = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{namespace}ListBucketResult":
        raise ValueError(f"<{root.tag}> is not a listing.")
    decode = _unquote if root.findtext(f"{namespace}EncodingType") == "url" else None
    columns = [[element.text or "" for element in root.iter(f"{namespace}{name}")] for name in _FIELDS]
    columns[2] = [*map(plain_etag, columns[2])]
    prefixes = [entry.text or "" for entry in root.iterfind(f"{namespace}CommonPrefixes/{namespace}Prefix")]
    return _page(columns, prefixes, decode)


def plain_etag(etag: str | None) -> str:
    """Return an etag without its quotes and without the mark of a weak one."""
    return (etag or "").removeprefix("W/").strip('"')


def _page(columns: Sequence[list[str]], prefixes: list[str], decode: Callable[[str], str] | None) -> ListingPage:
    keys, sizes, etags, times = columns
    if decode is not None:
        keys, prefixes = [*map(decode, keys)], [*map(decode, prefixes)]
    seconds = {time: datetime.fromisoformat(time).timestamp() for time in set(times)}
    objects = [
        ObjectInfo(key=key, size=size, etag=etag, last_modified=seconds[time])
        for key, size, etag, time in zip(keys, map(int, sizes), etags, times, strict=True)
    ]
    return ListingPage(objects=objects, prefixes=prefixes)


def _unquote(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def _take_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_event: object) -> None:
    if not is_error(response_dict["status_code"], response_dict["body"]):
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"<ListBucketResult/>"  # nothing is left for botocore's own parser
