"""The XML that S3's clients send: parsed with bounds, and without a document type, so that nothing in it expands."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from xml.parsers import expat

from preheat.worker.s3._errors import S3Error

MAX_BODY_BYTES = 8 << 20
"""10,000 parts, or 1,000 keys whose every byte is escaped, and room to spare."""
MAX_DELETED_KEYS = 1000
MAX_PARTS = 10_000
_CONDITIONS = ("ETag", "LastModifiedTime", "Size")
_MAX_DEPTH = 8
_MAX_ELEMENTS = 10 * MAX_PARTS
"""A part has a number, an etag and some checksums. A body of nothing but elements would stop all others for seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """What DeleteObjects is to remove."""

    keys: tuple[str, ...]
    quiet: bool
    """Whether the answer names only what could not be removed."""


@dataclass(slots=True)
class _Element:
    name: str
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def child(self, name: str) -> str:
        """Return the text of the first child of a name; empty if there is none."""
        return next((element.text for element in self.children if element.name == name), "")


def parse_parts(body: bytes) -> list[tuple[int, str]]:
    """Return the numbers and etags, without quotes, that a CompleteMultipartUpload names.

    Raises:
        S3Error: MalformedXML, or InvalidPartOrder if the numbers do not ascend.
    """
    parts: list[tuple[int, str]] = []
    for element in _parse(body, "CompleteMultipartUpload").children:
        if element.name == "Part":
            number = element.child("PartNumber").strip()
            if not (number.isascii() and number.isdigit() and len(number) < 10):
                raise _malformed(f"PartNumber {number[:20]!r} is no number")
            parts.append((int(number), element.child("ETag").strip().strip('"')))
    if not 1 <= len(parts) <= MAX_PARTS:
        raise _malformed(f"it has to name 1 to {MAX_PARTS} parts")
    if any(first >= second for (first, _), (second, _) in pairwise(parts)):
        raise S3Error("InvalidPartOrder", "The list of parts was not in ascending order of their numbers.")
    return parts


def parse_deletion(body: bytes) -> Deletion:
    """Return what a DeleteObjects names.

    Raises:
        S3Error: MalformedXML; or NotImplemented if it names versions of objects, or sets conditions: passed over, they
            would destroy what they are to save.
    """
    root = _parse(body, "Delete")
    objects = [element for element in root.children if element.name == "Object"]
    if not 1 <= len(objects) <= MAX_DELETED_KEYS:
        raise _malformed(f"it has to name 1 to {MAX_DELETED_KEYS} objects")
    if any(element.child("VersionId").strip() not in ("", "null") for element in objects):
        raise S3Error("NotImplemented", "Objects have no versions here that could be deleted.")
    if any(element.child(name) for element in objects for name in _CONDITIONS):
        raise S3Error("NotImplemented", f"Conditions of a deletion ({', '.join(_CONDITIONS)}) are not implemented.")
    keys = tuple(element.child("Key") for element in objects)
    if not all(keys):
        raise _malformed("an object has no key")
    return Deletion(keys=keys, quiet=root.child("Quiet").strip().lower() == "true")


class _Reader:
    """Builds the elements of a document as the parser meets them."""

    def __init__(self) -> None:
        self.root: _Element | None = None
        self._open: list[_Element] = []
        self._count = 0

    def start(self, name: str, _: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise _malformed(f"it has more than {_MAX_ELEMENTS} elements")
        element = _Element(name.rpartition(" ")[2])
        if len(self._open) >= _MAX_DEPTH:
            raise _malformed("it is nested too deeply")
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        self._open[-1].text += text

    def doctype(self, *_: object) -> None:
        raise _malformed("it has a document type")


def _parse(body: bytes, name: str) -> _Element:
    if len(body) > MAX_BODY_BYTES:
        raise _malformed(f"it has more than {MAX_BODY_BYTES} bytes")
    reader = _Reader()
    parser = expat.ParserCreate(encoding="UTF-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        raise _malformed(str(error)) from error
    if reader.root is None or reader.root.name != name:
        raise _malformed(f"its root is not {name}")
    return reader.root


def _malformed(why: str) -> S3Error:
    return S3Error("MalformedXML", f"The XML of the request is not what S3 describes: {why}.")
