"""s3torchconnectorclient: the part of s3torchconnector that speaks S3; the rest of it needs torch."""

import os

from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client
from session import MULTIPART_BYTES, NO_CALL, ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()


def client_of(place):
    os.environ["AWS_SECRET_ACCESS_KEY"] = place.secret_key  # it reads no other place
    return MountpointS3Client(place.region, endpoint=place.endpoint, force_path_style=True, max_attempts=1)


client = client_of(place)


def read(key, *span):
    return b"".join(client.get_object(place.bucket, key, *span))


def write(key, data):
    stream = client.put_object(place.bucket, key)
    stream.write(data)
    stream.close()


def list_keys():
    pages = client.list_objects(place.bucket, "data/", max_keys=2)
    same({item.key: item.size for page in pages for item in page.object_info}, SIZES)


def list_delimiter():
    pages = list(client.list_objects(place.bucket, "data/", "/"))
    same([name for page in pages for name in page.common_prefixes], ["data/odd/", "data/sub/"])
    same([item.key for page in pages for item in page.object_info], ["data/empty", "data/one.bin"])


def head():
    same(client.head_object(place.bucket, ONE).size, SIZES[ONE])
    refused(lambda: client.head_object(place.bucket, "data/none"), "not found", "NotFound")


def get():
    for key in SIZES:
        same(read(key), content(key))
    refused(lambda: read("data/none"), "does not exist")


def get_range():
    same(read(ONE, 1000, 2000), content(ONE)[1000:2000])


def odd_name():
    same(read(ODD), content(ODD))


def put():
    data = content("put", 100_000)
    write(place.out("put"), data)
    same(read(place.out("put")), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    write(place.out("multipart"), data)
    same(read(place.out("multipart")), data)


def copy():
    client.copy_object(place.bucket, ONE, place.bucket, place.out("copy"))
    same(read(place.out("copy")), content(ONE))


def delete():
    write(place.out("deleted"), b"x")
    client.delete_object(place.bucket, place.out("deleted"))
    refused(lambda: read(place.out("deleted")), "does not exist")


def wrong_key():
    refused(lambda: b"".join(client_of(place.wrong()).get_object(place.bucket, ONE)), "SignatureDoesNot", "Forbidden")


main(
    {
        "list_buckets": NO_CALL,
        "list": list_keys,
        "list_delimiter": list_delimiter,
        "head": head,
        "get": get,
        "get_range": get_range,
        "get_suffix": NO_CALL,
        "get_condition": NO_CALL,
        "odd_name": odd_name,
        "put": put,
        "multipart": multipart,
        "copy": copy,
        "delete": delete,
        "presigned": NO_CALL,
        "wrong_key": wrong_key,
    }
)
