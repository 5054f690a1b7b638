"""s5cmd."""

import json

from session import (
    MULTIPART_BYTES,
    ODD,
    ONE,
    SIZES,
    Place,
    content,
    fetch_presigned,
    main,
    refused,
    run,
    same,
)

place = Place.here()


def s5cmd(*command, data=None, **environment):
    environment.setdefault("S3_ENDPOINT_URL", place.endpoint)
    return run("s5cmd", "--json", "--retry-count", "0", *command, data=data, **environment)


def uri(key=""):
    return f"s3://{place.bucket}/{key}"


def listed(pattern):
    return [json.loads(line) for line in s5cmd("ls", uri(pattern)).splitlines()]


def cat(key):
    return s5cmd("cat", "--raw", uri(key))


def list_buckets():
    assert place.bucket in [json.loads(line)["name"] for line in s5cmd("ls").splitlines()]


def list_keys():
    same({item["key"].removeprefix(uri()): item.get("size", 0) for item in listed("data/*")}, SIZES)


def list_delimiter():
    found = sorted(item["key"].removeprefix(uri()) for item in listed("data/"))
    same(found, ["data/empty", "data/odd/", "data/one.bin", "data/sub/"])


def head():
    same(json.loads(s5cmd("head", uri(ONE)))["size"], SIZES[ONE])


def get():
    for key in SIZES:
        same(cat(key), content(key))
    refused(lambda: cat("data/none"), "not found")


def odd_name():
    same(cat(ODD), content(ODD))


def put():
    data = content("put", 100_000)
    s5cmd("pipe", uri(place.out("put")), data=data)
    same(cat(place.out("put")), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    s5cmd("pipe", "--part-size", "5", uri(place.out("multipart")), data=data)
    same(cat(place.out("multipart")), data)


def copy():
    s5cmd("cp", "--raw", uri(ONE), uri(place.out("copy")))
    same(cat(place.out("copy")), content(ONE))


def delete():
    for name in ("gone/1", "gone/2"):
        s5cmd("pipe", uri(place.out(name)), data=b"x")
    s5cmd("rm", uri(place.out("gone/*")))
    refused(lambda: cat(place.out("gone/1")), "not found")


def presigned():
    fetch_presigned(run("s5cmd", "presign", uri(ONE), S3_ENDPOINT_URL=place.endpoint).decode().strip())


def wrong_key():
    secret = place.wrong().secret_key
    refused(lambda: s5cmd("cat", uri(ONE), AWS_SECRET_ACCESS_KEY=secret), "SignatureDoesNotMatch", "403")


main(globals())
