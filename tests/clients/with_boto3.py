"""boto3."""

from io import BytesIO

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, fetch_presigned, main, refused, same

place = Place.here()


def client(place):
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
        region_name=place.region,
        config=Config(retries={"total_max_attempts": 1}),
    )


s3 = client(place)


def read(key, **options):
    return s3.get_object(Bucket=place.bucket, Key=key, **options)["Body"].read()


def list_buckets():
    assert place.bucket in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def list_keys():
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix="data/", PaginationConfig={"PageSize": 2}
    )
    found = {item["Key"]: item["Size"] for page in pages for item in page["Contents"]}
    same(found, SIZES)
    old = s3.list_objects(Bucket=place.bucket, Prefix="data/")
    same([item["Key"] for item in old["Contents"]], sorted(SIZES))


def list_delimiter():
    found = s3.list_objects_v2(Bucket=place.bucket, Prefix="data/", Delimiter="/")
    same([item["Prefix"] for item in found["CommonPrefixes"]], ["data/odd/", "data/sub/"])
    same([item["Key"] for item in found["Contents"]], ["data/empty", "data/one.bin"])


def head():
    found = s3.head_object(Bucket=place.bucket, Key=ONE)
    same(found["ContentLength"], SIZES[ONE])
    same(found["ETag"], s3.get_object(Bucket=place.bucket, Key=ONE)["ETag"])
    refused(lambda: s3.head_object(Bucket=place.bucket, Key="data/none"), "404")
    s3.head_bucket(Bucket=place.bucket)


def get():
    for key in SIZES:
        same(read(key), content(key))
    refused(lambda: read("data/none"), "NoSuchKey")
    refused(lambda: s3.get_object(Bucket="no-such-bucket", Key=ONE), "NoSuchBucket")


def get_range():
    same(read(ONE, Range="bytes=1000-1999"), content(ONE)[1000:2000])
    same(read(ONE, Range="bytes=299000-"), content(ONE)[299000:])
    refused(lambda: read(ONE, Range="bytes=300000-"), "InvalidRange")


def get_suffix():
    same(read(ONE, Range="bytes=-100"), content(ONE)[-100:])


def get_condition():
    etag = s3.head_object(Bucket=place.bucket, Key=ONE)["ETag"]
    same(read(ONE, IfMatch=etag), content(ONE))
    refused(lambda: read(ONE, IfNoneMatch=etag), "304")
    refused(lambda: read(ONE, IfMatch='"another"'), "PreconditionFailed")


def odd_name():
    same(read(ODD), content(ODD))
    same(s3.list_objects_v2(Bucket=place.bucket, Prefix=ODD)["Contents"][0]["Key"], ODD)


def put():
    data = content("put", 100_000)
    s3.put_object(Bucket=place.bucket, Key=place.out("put"), Body=data)
    same(read(place.out("put")), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    s3.upload_fileobj(BytesIO(data), place.bucket, place.out("multipart"), Config=config)
    same(read(place.out("multipart")), data)


def copy():
    source = {"Bucket": place.bucket, "Key": ODD}
    s3.copy_object(Bucket=place.bucket, Key=place.out("copy"), CopySource=source)
    same(read(place.out("copy")), content(ODD))


def delete():
    for name in ("deleted", "deleted also"):
        s3.put_object(Bucket=place.bucket, Key=place.out(name), Body=b"x")
    s3.delete_object(Bucket=place.bucket, Key=place.out("deleted"))
    s3.delete_objects(Bucket=place.bucket, Delete={"Objects": [{"Key": place.out("deleted also")}]})
    for name in ("deleted", "deleted also"):
        refused(lambda name=name: read(place.out(name)), "NoSuchKey")


def presigned():
    fetch_presigned(s3.generate_presigned_url("get_object", Params={"Bucket": place.bucket, "Key": ONE}))


def wrong_key():
    refused(lambda: client(place.wrong()).get_object(Bucket=place.bucket, Key=ONE), "SignatureDoesNotMatch")


main(globals())
