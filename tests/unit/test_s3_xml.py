"""S3's XML: what clients are told, read by botocore's own parsers, and what they send, hostile or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.handlers import decode_list_object, decode_list_object_v2
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from preheat import errors
from preheat.errors import PreheatError
from preheat.versions import ObjectInfo
from preheat.worker.port._http import BodyTooLarge, UnsatisfiableRange
from preheat.worker.s3 import _xml as xml
from preheat.worker.s3._errors import STATUS, Fault, S3Error, fault_of
from preheat.worker.s3._listing import ListPage, ListQuery
from preheat.worker.s3._xml_bodies import Deletion, parse_deletion, parse_parts

MODEL = botocore.session.get_session().get_service_model("s3")
NOW = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)


def parsed(operation: str, body: bytes, status: int = 200) -> dict[str, Any]:
    """Return what botocore makes of an answer."""
    shape = MODEL.operation_model(operation).output_shape
    found = create_parser("rest-xml").parse({"status_code": status, "headers": {}, "body": body}, shape)
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def info(key: str, size: int = 3) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, etag="abc", last_modified=NOW.timestamp() + 0.7)


class TestAnswers:
    def test_buckets(self):
        found = parsed("ListBuckets", xml.list_buckets([("a", NOW.timestamp()), ("b", 0)]))
        assert [bucket["Name"] for bucket in found["Buckets"]] == ["a", "b"]
        assert found["Buckets"][0]["CreationDate"] == NOW

    @pytest.mark.parametrize(("region", "shown"), [("us-east-1", None), ("eu-west-1", "eu-west-1")])
    def test_location(self, region: str, shown: str | None):
        body = xml.location(region)
        assert body.endswith(b'doc/2006-03-01/">' + (shown or "").encode() + b"</LocationConstraint>")

    @given(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=20),
        st.sampled_from([1, 2]),
    )
    def test_listing_url_encoded(self, name: str, version: int):
        query = ListQuery(
            version=version, prefix=name, delimiter=name, start_after=name, url_encoded=True, token="t", max_keys=2
        )
        page = ListPage(objects=(info(name),), groups=(name + "/",), next_after=name)
        operation, decode = ("ListObjects", decode_list_object) if version == 1 else ("ListObjectsV2", None)
        found = parsed(operation, xml.listing(query, page, bucket="b"))
        (decode or decode_list_object_v2)(found, context={"encoding_type_auto_set": True})
        assert [item["Key"] for item in found["Contents"]] == [name]
        assert [item["Prefix"] for item in found["CommonPrefixes"]] == [name + "/"]
        assert (found["Delimiter"], found["IsTruncated"], found["MaxKeys"]) == (name, True, 2)
        if version == 1:
            assert (found["Marker"], found["NextMarker"]) == (name, name)
        else:
            assert (found["StartAfter"], found["ContinuationToken"]) == (name, "t")
            assert (found["NextContinuationToken"], found["KeyCount"]) == (page.next_token, 2)

    @given(
        st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), min_size=1)
        | st.sampled_from(["a\rb", "a\nb", "a\tb", " a ", "<&>\"'", "]]>"])
    )
    def test_listing_of_what_xml_can_say(self, name: str):
        query, page = ListQuery(prefix=name), ListPage(objects=(info(name),), groups=(name,))
        found = parsed("ListObjectsV2", xml.listing(query, page, bucket="b"))
        item = found["Contents"][0]
        assert (item["Key"], item["ETag"], item["Size"], item["StorageClass"]) == (name, '"abc"', 3, "STANDARD")
        assert (item["LastModified"], found["Prefix"], "NextContinuationToken" in found) == (NOW, name, False)
        assert (found["CommonPrefixes"], found["IsTruncated"]) == ([{"Prefix": name}], False)

    def test_control_characters_are_references(self):
        assert b"<Key>a&#x1;b</Key>" in xml.listing(ListQuery(), ListPage(objects=(info("a\x01b"),)), bucket="b")

    def test_owner(self):
        page = ListPage(objects=(info("a"),))
        assert b"<Owner>" in xml.listing(ListQuery(fetch_owner=True), page, bucket="b")
        assert b"<Owner>" not in xml.listing(ListQuery(), page, bucket="b")

    def test_uploads(self):
        names = {"Bucket": "b", "Key": "k<&>"}
        created = xml.upload_created(bucket="b", key="k<&>", upload_id="u")
        assert parsed("CreateMultipartUpload", created) == {**names, "UploadId": "u"}
        completed = xml.upload_completed(url="http://h/b/k", bucket="b", key="k<&>", etag="e-2")
        expected = {**names, "Location": "http://h/b/k", "ETag": '"e-2"'}
        assert parsed("CompleteMultipartUpload", completed) == expected
        listed = xml.uploads([xml.Upload(key="k &", upload_id="u", initiated=NOW.timestamp())], bucket="b")
        found = parsed("ListMultipartUploads", listed)
        assert (found["Uploads"][0]["Key"], found["Uploads"][0]["Initiated"]) == ("k &", NOW)
        assert found["IsTruncated"] is False

    def test_parts(self):
        parts = [xml.Part(number=n, etag=f"e{n}", size=n, last_modified=NOW.timestamp()) for n in (1, 3, 7)]
        found = parsed("ListParts", xml.parts(parts, bucket="b", key="k", upload_id="u", after=1, limit=1))
        assert [part["PartNumber"] for part in found["Parts"]] == [3]
        assert (found["IsTruncated"], found["NextPartNumberMarker"], found["MaxParts"]) == (True, 3, 1)
        found = parsed("ListParts", xml.parts(parts, bucket="b", key="k", upload_id="u", after=3, limit=1000))
        assert (found["Parts"][0]["ETag"], found["Parts"][0]["Size"], found["IsTruncated"]) == ('"e7"', 7, False)

    def test_copies(self):
        expected = {"CopyObjectResult": {"ETag": '"e"', "LastModified": NOW}}
        body = xml.object_copied(etag="e", last_modified=NOW.timestamp())
        assert parsed("CopyObject", body) == expected
        part = xml.object_copied(etag="e", last_modified=NOW.timestamp(), part=True)
        assert parsed("UploadPartCopy", part) == {"CopyPartResult": expected["CopyObjectResult"]}

    def test_deletions(self):
        fault = Fault(code="AccessDenied", status=403, message="no")
        found = parsed("DeleteObjects", xml.objects_deleted(["a\rb"], [xml.FailedDeletion(key="c", fault=fault)]))
        assert found["Deleted"] == [{"Key": "a\rb"}]
        assert found["Errors"] == [{"Key": "c", "Code": "AccessDenied", "Message": "no"}]

    def test_errors(self):
        fault = Fault(code="NoSuchKey", status=404, message="<gone>", details={"Key": "k"})
        body = xml.error(fault, resource="/b/k", request_id="r")
        error = create_parser("rest-xml").parse({"status_code": 404, "headers": {}, "body": body}, None)["Error"]
        assert (error["Code"], error["Message"], error["Key"]) == ("NoSuchKey", "<gone>", "k")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (S3Error("SlowDown", "x"), "SlowDown", 503),
        (errors.BucketNotFound("x"), "NoSuchBucket", 404),
        (errors.ObjectNotFound("x"), "NoSuchKey", 404),
        (errors.VersionChanged("x"), "PreconditionFailed", 412),
        (errors.Forbidden("x"), "AccessDenied", 403),
        (errors.OriginThrottled("x"), "SlowDown", 503),
        (errors.OriginCorrupt("x"), "ServiceUnavailable", 503),
        (errors.StoreFull("x"), "InsufficientStorage", 507),
        (errors.CorruptPage("x"), "InternalError", 500),
        (errors.InvalidPath("x"), "InvalidURI", 400),
        (UnsatisfiableRange("x"), "InvalidRange", 416),
        (BodyTooLarge("x"), "EntityTooLarge", 400),
        (PreheatError("x"), "InternalError", 500),
    ],
)
def test_the_name_of_an_error(error: PreheatError, code: str, status: int):
    fault = fault_of(error)
    assert (fault.code, fault.status, fault.message) == (code, status, str(error))


def test_details():
    assert fault_of(UnsatisfiableRange("x", size=0)).details == {"ActualObjectSize": "0"}
    assert fault_of(S3Error("NoSuchKey", "x", Key="k")).details == {"Key": "k"}


def test_every_error_has_a_name():
    kinds = [PreheatError, *PreheatError.__subclasses__()]
    assert all(fault_of(kind("x")).code in STATUS for kind in kinds if kind is not S3Error)


def body_of(name: str, content: str, *, namespace: bool = True) -> bytes:
    attribute = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' if namespace else ""
    return f"<{name}{attribute}>{content}</{name}>".encode()


def part_of(number: object, etag: str = "&quot;e&quot;") -> str:
    return f"<Part><ETag>{etag}</ETag><ChecksumCRC32>x</ChecksumCRC32><PartNumber>{number}</PartNumber></Part>"


OBJECT = "<Object><Key>k</Key></Object>"
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
XXE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


class TestBodies:
    @pytest.mark.parametrize("namespace", [True, False])
    def test_parts(self, namespace: bool):
        body = body_of("CompleteMultipartUpload", part_of(1) + part_of(" 20 ", "f"), namespace=namespace)
        assert parse_parts(body) == [(1, "e"), (20, "f")]

    @given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
    def test_deletion_as_botocore_writes_it(self, keys: list[str]):
        keys = [key for key in keys if all(ord(character) >= 32 or character in "\r\n\t" for character in key)] or ["k"]
        keys = [key.replace("\ufffe", "").replace("\uffff", "") or "k" for key in keys]
        serializer = botocore.serialize.create_serializer("rest-xml")
        parameters = {"Bucket": "b", "Delete": {"Objects": [{"Key": key} for key in keys], "Quiet": True}}
        body = serializer.serialize_to_request(parameters, MODEL.operation_model("DeleteObjects"))["body"]
        expected = tuple(key.replace("\r\n", "\n").replace("\r", "\n") for key in keys)
        escaped = body.replace(b"\r", b"&#xD;")  # as its handlers do before it is sent
        assert parse_deletion(escaped) == Deletion(keys=tuple(keys), quiet=True)
        assert parse_deletion(body).keys == expected

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "MalformedXML"),
            (b"x", "MalformedXML"),
            (b"<Delete>", "MalformedXML"),
            (b"<Other/>", "MalformedXML"),
            (b"\xff<Delete/>", "MalformedXML"),
            (body_of("Delete", ""), "MalformedXML"),
            (body_of("Delete", "<Object/>"), "MalformedXML"),
            (body_of("Delete", "<Object><Key/></Object>"), "MalformedXML"),
            (body_of("Delete", OBJECT * 1001), "MalformedXML"),
            (body_of("Delete", "<Object><Key>&a;</Key></Object>"), "MalformedXML"),
            (body_of("Delete", OBJECT + "<a>" * 5000 + "</a>" * 5000), "MalformedXML"),
            (body_of("Delete", OBJECT + "<a/>" * 100_000), "MalformedXML"),
            (BOMB.encode() + body_of("Delete", "<Object><Key>&b;</Key></Object>"), "MalformedXML"),
            (XXE.encode() + body_of("Delete", "<Object><Key>&a;</Key></Object>"), "MalformedXML"),
            (body_of("Delete", OBJECT + " " * (9 << 20)), "MalformedXML"),
            (body_of("Delete", "<Object><Key>k</Key><VersionId>v</VersionId></Object>"), "NotImplemented"),
        ],
    )
    def test_deletions_that_are_refused(self, body: bytes, code: str):
        with pytest.raises(S3Error) as refused:
            parse_deletion(body)
        assert refused.value.s3_code == code

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            ("", "MalformedXML"),
            (part_of("x"), "MalformedXML"),
            (part_of("-1"), "MalformedXML"),
            (part_of("9" * 5000), "MalformedXML"),
            (part_of(2) + part_of(1), "InvalidPartOrder"),
            (part_of(2) + part_of(2), "InvalidPartOrder"),
        ],
    )
    def test_parts_that_are_refused(self, content: str, code: str):
        with pytest.raises(S3Error) as refused:
            parse_parts(body_of("CompleteMultipartUpload", content))
        assert refused.value.s3_code == code
