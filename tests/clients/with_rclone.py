"""rclone."""

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


def rclone(*command, place=place, data=None):
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": place.access_key,
        "SECRET_ACCESS_KEY": place.secret_key,
        "ENDPOINT": place.endpoint,
        "REGION": place.region,
    }
    environment = {f"RCLONE_CONFIG_THERE_{name}": value for name, value in settings.items()}
    options = ("--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", "--s3-no-check-bucket")
    return run("rclone", *command, *options, data=data, **environment)


def path(key=""):
    return f"there:{place.bucket}/{key}"


def cat(key, *options):
    return rclone("cat", path(key), *options)


def list_buckets():
    assert f"{place.bucket}/" in rclone("lsf", "there:").decode().splitlines()


def list_keys():
    found = json.loads(rclone("lsjson", "--recursive", "--files-only", path("data")))
    same({f"data/{item['Path']}": item["Size"] for item in found}, SIZES)


def list_delimiter():
    same(sorted(rclone("lsf", path("data")).decode().split()), ["empty", "odd/", "one.bin", "sub/"])


def head():
    same(json.loads(rclone("lsjson", "--stat", path(ONE)))["Size"], SIZES[ONE])


def get():
    for key in SIZES:
        same(cat(key), content(key))
    same(cat("data/none"), b"")  # as it says of what is not there


def get_range():
    same(cat(ONE, "--offset", "1000", "--count", "1000"), content(ONE)[1000:2000])


def get_suffix():
    same(cat(ONE, "--tail", "100"), content(ONE)[-100:])


def odd_name():
    same(cat(ODD), content(ODD))


def put():
    data = content("put", 100_000)
    rclone("rcat", path(place.out("put")), data=data)
    same(cat(place.out("put")), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    sizes = ("--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "5Mi", "--streaming-upload-cutoff", "5Mi")
    rclone("rcat", *sizes, path(place.out("multipart")), data=data)
    same(cat(place.out("multipart")), data)


def copy():
    rclone("copyto", path(ODD), path(place.out("copy")))
    same(cat(place.out("copy")), content(ODD))


def delete():
    for name in ("gone/1", "gone/2"):
        rclone("rcat", path(place.out(name)), data=b"x")
    rclone("delete", path(place.out("gone")))
    same(json.loads(rclone("size", "--json", path(place.out("gone"))))["count"], 0)


def presigned():
    fetch_presigned(rclone("link", "--expire", "1h", path(ONE)).decode().strip())


def wrong_key():
    refused(lambda: rclone("cat", path(ONE), place=place.wrong()), "SignatureDoesNotMatch", "Forbidden")


main(globals())
