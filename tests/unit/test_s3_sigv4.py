"""Signature Version 4, verified: AWS's published examples, botocore's signers as oracle, and what must be refused."""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._sigv4 import EMPTY_SHA256, MAX_EXPIRES, MAX_SKEW, UNSIGNED, Signature, verify

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EXAMPLES_AT = timegm((2013, 5, 24, 0, 0, 0))
SCOPE = f"{KEY}/20130524/us-east-1/s3/aws4_request"
HOST = "127.0.0.1:29998"


def secret_of(access_key: str) -> str:
    if access_key != KEY:
        raise S3Error("InvalidAccessKeyId", access_key)
    return SECRET


def check(method: str, target: str, headers: Mapping[str, str], *, now: float = EXAMPLES_AT) -> Signature:
    return verify(method, target, headers, secret_of=secret_of, now=now)


def refusal(method: str, target: str, headers: Mapping[str, str], *, now: float = EXAMPLES_AT) -> str:
    with pytest.raises(S3Error) as refused:
        check(method, target, headers, now=now)
    return refused.value.s3_code


def example(signature: str, names: str, content: str = EMPTY_SHA256, **headers: str) -> dict[str, str]:
    """Return the headers of one of AWS's examples."""
    return {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": content,
        "authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders={names},Signature={signature}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }


GET_OBJECT = example(
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    "host;range;x-amz-content-sha256;x-amz-date",
    range="bytes=0-9",
)
PUT_OBJECT = example(
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
    "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    date="Fri, 24 May 2013 00:00:00 GMT",
    x_amz_storage_class="REDUCED_REDUNDANCY",
)
PLAIN = "host;x-amz-content-sha256;x-amz-date"
GET_LIFECYCLE = example("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", PLAIN)
LIST_OBJECTS = example("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", PLAIN)
PRESIGNED = (
    f"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(SCOPE, safe='')}&X-Amz-Date=20130524T000000Z"
    "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)
PRESIGNED_HEADERS = {"host": "examplebucket.s3.amazonaws.com"}


class TestPublishedExamples:
    @pytest.mark.parametrize(
        ("method", "target", "headers"),
        [
            ("GET", "/test.txt", GET_OBJECT),
            ("PUT", "/test%24file.text", PUT_OBJECT),
            ("PUT", "/test$file.text", PUT_OBJECT),  # plainer on the wire than it is signed
            ("GET", "/?lifecycle", GET_LIFECYCLE),
            ("GET", "/?lifecycle=", GET_LIFECYCLE),
            ("GET", "/?max-keys=2&prefix=J", LIST_OBJECTS),
            ("GET", "/?prefix=J&max-keys=2", LIST_OBJECTS),
            ("GET", "/?prefix=%4A&max%2Dkeys=2", LIST_OBJECTS),
        ],
    )
    def test_headers(self, method: str, target: str, headers: dict[str, str]):
        assert check(method, target, headers) == Signature(access_key=KEY, content=headers["x-amz-content-sha256"])

    def test_presigned(self):
        assert check("GET", PRESIGNED, PRESIGNED_HEADERS) == Signature(access_key=KEY, content=UNSIGNED)

    @pytest.mark.parametrize(
        ("method", "target", "change"),
        [
            ("HEAD", "/test.txt", {}),
            ("GET", "/test.txt/", {}),
            ("GET", "//test.txt", {}),
            ("GET", "/./test.txt", {}),
            ("GET", "/test.txt?acl", {}),
            ("GET", "/test.txt", {"range": "bytes=0-10"}),
            ("GET", "/test.txt", {"host": "examplebucket.s3.amazonaws.org"}),
            ("GET", "/test.txt", {"x-amz-content-sha256": UNSIGNED}),
            ("GET", "/test.txt", {"x-amz-date": "20130524T000001Z"}),
        ],
    )
    def test_what_was_changed_is_refused(self, method: str, target: str, change: dict[str, str]):
        assert refusal(method, target, {**GET_OBJECT, **change}) == "SignatureDoesNotMatch"

    def test_blanks_around_and_within_values_do_not_count(self):
        assert check("GET", "/test.txt", {**GET_OBJECT, "range": " \tbytes=0-9 "})
        assert check("PUT", "/test$file.text", {**PUT_OBJECT, "date": "Fri,  24 May\t2013 00:00:00 GMT"})


class TestClock:
    @pytest.mark.parametrize("seconds", [MAX_SKEW, -MAX_SKEW])
    def test_skew(self, seconds: int):
        assert check("GET", "/test.txt", GET_OBJECT, now=EXAMPLES_AT + seconds)
        beyond = EXAMPLES_AT + seconds + (1 if seconds > 0 else -1)
        assert refusal("GET", "/test.txt", GET_OBJECT, now=beyond) == "RequestTimeTooSkewed"

    def test_presigned_expiry(self):
        assert check("GET", PRESIGNED, PRESIGNED_HEADERS, now=EXAMPLES_AT + 86400)
        assert refusal("GET", PRESIGNED, PRESIGNED_HEADERS, now=EXAMPLES_AT + 86401) == "AccessDenied"
        assert refusal("GET", PRESIGNED, PRESIGNED_HEADERS, now=EXAMPLES_AT - MAX_SKEW - 1) == "AccessDenied"

    def test_the_header_date_in_the_place_of_x_amz_date(self):
        headers = {name: value for name, value in GET_OBJECT.items() if name != "x-amz-date"}
        for date in ("Fri, 24 May 2013 00:00:00 GMT", "20130524T000000Z"):
            assert refusal("GET", "/test.txt", {**headers, "date": date}) == "SignatureDoesNotMatch"  # it was signed
        for date in ("yesterday", "2013-05-24T00:00:00Z", "20131399T000000Z", "Fri, 99 May 2013 00:00:00 GMT"):
            assert refusal("GET", "/test.txt", {**headers, "date": date}) == "AccessDenied"
        assert refusal("GET", "/test.txt", headers) == "AccessDenied"


class TestForm:
    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            ("AWS4-HMAC-SHA256 ", "AWS ", "InvalidRequest"),
            ("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 ", "InvalidRequest"),
            ("AWS4-HMAC-SHA256 ", "Bearer ", "InvalidRequest"),
            ("Credential=", "Credentials=", "AuthorizationHeaderMalformed"),
            ("SignedHeaders=", "", "AuthorizationHeaderMalformed"),
            ("Signature=", "Signature=,Signed=", "AuthorizationHeaderMalformed"),
            ("/s3/", "/sts/", "AuthorizationHeaderMalformed"),
            ("aws4_request", "aws3_request", "AuthorizationHeaderMalformed"),
            ("20130524/", "20130525/", "AuthorizationHeaderMalformed"),
            ("us-east-1/", "", "AuthorizationHeaderMalformed"),
            (KEY, "AKIAUNKNOWN", "InvalidAccessKeyId"),
            ("us-east-1", "eu-west-1", "SignatureDoesNotMatch"),
            ("host;", "", "AccessDenied"),
            (";x-amz-date", "", "AccessDenied"),
            ("host;range", "host;nothing;range", "SignatureDoesNotMatch"),
            ("host;range", "host;Range", "SignatureDoesNotMatch"),
            ("Signature=f0", "Signature=F0", "SignatureDoesNotMatch"),
            ("Signature=f0", "Signature=é", "SignatureDoesNotMatch"),
        ],
    )
    def test_authorization(self, old: str, new: str, code: str):
        authorization = GET_OBJECT["authorization"].replace(old, new)
        assert refusal("GET", "/test.txt", {**GET_OBJECT, "authorization": authorization}) == code

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm=AWS4", "AuthorizationQueryParametersError"),
            ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "prefix=X-Amz-Algorithm=", "AuthorizationQueryParametersError"),
            ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "", "AccessDenied"),
            ("X-Amz-Expires=86400&", "", "AuthorizationQueryParametersError"),
            ("X-Amz-Expires=86400", "X-Amz-Expires=0", "AuthorizationQueryParametersError"),
            ("X-Amz-Expires=86400", "X-Amz-Expires=-1", "AuthorizationQueryParametersError"),
            ("X-Amz-Expires=86400", f"X-Amz-Expires={MAX_EXPIRES + 1}", "AuthorizationQueryParametersError"),
            ("X-Amz-Expires=86400", "X-Amz-Expires=" + "9" * 5000, "AuthorizationQueryParametersError"),
            ("X-Amz-Expires=86400", "X-Amz-Expires=86401", "SignatureDoesNotMatch"),
            ("X-Amz-Date=20130524T", "X-Amz-Date=2013-05-24T", "AuthorizationQueryParametersError"),
            ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", "AccessDenied"),
            ("X-Amz-Signature=aeeed9bb", "X-Amz-Signature=00000000", "SignatureDoesNotMatch"),
            ("X-Amz-Signature", "X-Amz-signature", "AuthorizationQueryParametersError"),
            ("&X-Amz-Signature", "&acl&X-Amz-Signature", "SignatureDoesNotMatch"),
        ],
    )
    def test_query(self, old: str, new: str, code: str):
        assert refusal("GET", PRESIGNED.replace(old, new), PRESIGNED_HEADERS) == code

    def test_headers_that_have_to_be_signed(self):
        for headers in (GET_OBJECT, PRESIGNED_HEADERS):
            target = "/test.txt" if headers is GET_OBJECT else PRESIGNED
            assert refusal("GET", target, {**headers, "x-amz-meta-role": "admin"}) == "AccessDenied"

    @pytest.mark.parametrize("content", ["", "abc", EMPTY_SHA256.upper(), "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"])
    def test_content_modes(self, content: str):
        assert refusal("GET", "/test.txt", {**GET_OBJECT, "x-amz-content-sha256": content}) == "InvalidArgument"

    def test_no_content_mode_and_no_signature(self):
        headers = {name: value for name, value in GET_OBJECT.items() if name != "x-amz-content-sha256"}
        assert refusal("GET", "/test.txt", headers) == "InvalidRequest"
        assert refusal("GET", "/test.txt", {"host": HOST}) == "AccessDenied"


def presigned_v2(url: str, method: str = "GET", expires: int = 3600, **headers: str) -> str:
    """Return the target that botocore presigns by Version 2, now."""
    request = AWSRequest(method=method, url=url, headers=headers)
    HmacV1QueryAuth(Credentials(KEY, SECRET), expires=expires).add_auth(request)
    return request.url.removeprefix(f"http://{HOST}")


class TestVersion2:
    URL = f"http://{HOST}/bucket/a%20b%2B.txt"

    def test_presigned(self):
        assert check("GET", presigned_v2(self.URL), {}, now=time.time()) == Signature(access_key=KEY, content=UNSIGNED)
        headers = {"content-type": "text/plain", "x-amz-meta-a": "b"}
        assert check("PUT", presigned_v2(self.URL, "PUT", **headers), headers, now=time.time())
        parts = presigned_v2(f"{self.URL}?partNumber=2&uploadId=a%2Bb")
        assert check("GET", parts, {}, now=time.time())
        shown = presigned_v2(f"{self.URL}?response-content-type=text%2Fplain&uploads")
        assert check("GET", shown, {}, now=time.time())

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            ("a%20b", "a%20c", "SignatureDoesNotMatch"),
            (KEY, "AKIAUNKNOWN", "InvalidAccessKeyId"),
            ("Signature=", "Signature=x", "SignatureDoesNotMatch"),
            ("Signature=", "Signature=%E4", "SignatureDoesNotMatch"),
            ("Expires=", "Expires=x", "AccessDenied"),
            ("Expires=", "Expired=", "AccessDenied"),
            ("?", "?uploads&", "SignatureDoesNotMatch"),
            ("?", "?prefix=x&", "AccessDenied"),
            ("?", "?list-type=2&", "AccessDenied"),
        ],
    )
    def test_what_was_changed_is_refused(self, old: str, new: str, code: str):
        assert refusal("GET", presigned_v2(self.URL).replace(old, new, 1), {}, now=time.time()) == code

    def test_a_parameter_that_comes_twice_is_refused(self):
        """The first one would count, and the last one is signed."""
        target = presigned_v2(f"{self.URL}?partNumber=2&uploadId=a", "PUT")
        for more in ("partNumber=9&", "uploadId=b&"):
            assert refusal("PUT", target.replace("?", f"?{more}"), {}, now=time.time()) == "AccessDenied"

    def test_other_methods_headers_and_times_are_refused(self):
        target, now = presigned_v2(self.URL), time.time()
        assert refusal("PUT", target, {}, now=now) == "SignatureDoesNotMatch"
        assert refusal("GET", target, {"x-amz-acl": "public"}, now=now) == "SignatureDoesNotMatch"
        assert refusal("GET", target, {}, now=now + 3700) == "AccessDenied"
        assert refusal("GET", presigned_v2(self.URL, expires=MAX_EXPIRES + 9), {}, now=now) == "AccessDenied"


names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=30)
odd = st.sampled_from(
    ["a b", "a+b", "50%", "a?b#c", "//", "/../x/./", "ä/日本", "a=b&c", "%2F", "~._-", "\r\n", "'()*!"]
)


class TestOracle:
    """What botocore signs is taken, and nothing else of it."""

    @given(key=names | odd, prefix=names | odd, region=st.sampled_from(["us-east-1", "", "auto"]), kind=st.booleans())
    def test_odd_names(self, key: str, prefix: str, region: str, kind: bool):
        url = f"http://{HOST}/bucket/{quote(key, safe='/~')}?list-type=2&prefix={quote(prefix, safe='-_.~')}&flag"
        signer = (S3SigV4QueryAuth if kind else S3SigV4Auth)(Credentials(KEY, SECRET), "s3", region)
        request = AWSRequest(method="GET", url=url, headers={"x-amz-meta-a": "b  c "})
        signer.add_auth(request)
        prepared = request.prepare()
        target = prepared.url.removeprefix(f"http://{HOST}")
        headers = {
            name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value
            for name, value in prepared.headers.items()
        }
        headers["host"] = urlsplit(prepared.url).netloc
        now = time.time()
        assert check("GET", target, headers, now=now).access_key == KEY
        path, _, query = target.partition("?")
        assert check("GET", f"{path.replace('%21', '!').replace('%2A', '*')}?{query}", headers, now=now)
        for other in (f"{path}x?{query}", f"{path}?{query}&x", f"/{path}?{query}"):
            assert refusal("GET", other, headers, now=now) == "SignatureDoesNotMatch"
