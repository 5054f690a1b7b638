"""s3torchconnector, with torch: its data sets and checkpoints, and the S3 client below them for the rest."""

import os

from s3torchconnector import S3Checkpoint, S3ClientConfig, S3IterableDataset, S3MapDataset, S3ReaderConstructor
from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, main, refused, same
from torch.utils.data import DataLoader

place = Place.here()
PLACE = {
    "region": place.region,
    "endpoint": place.endpoint,
    "s3client_config": S3ClientConfig(force_path_style=True, max_attempts=1),
}
client = MountpointS3Client(place.region, endpoint=place.endpoint, force_path_style=True, max_attempts=1)


def uri(key):
    return f"s3://{place.bucket}/{key}"


def data_set(key, **options):
    return S3MapDataset.from_objects([uri(key)], **PLACE, **options)


def read(key):
    return data_set(key)[0].read()


def write(key, data):
    with S3Checkpoint(**PLACE).writer(uri(key)) as writer:
        writer.write(data)
    with S3Checkpoint(**PLACE).reader(uri(key)) as reader:
        same(reader.read(), data)


def named(item):
    return item.key, item.read()


def list_keys():
    found = S3IterableDataset.from_prefix(uri("data/"), **PLACE, transform=named)
    same([item.key for item in S3MapDataset.from_prefix(uri("data/"), **PLACE)], sorted(SIZES))
    same(dict(DataLoader(found, batch_size=None)), {key: content(key) for key in SIZES})


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
    reader = data_set(ONE, reader_constructor=S3ReaderConstructor.range_based())[0]
    reader.seek(1000)
    same(reader.read(1000), content(ONE)[1000:2000])


def odd_name():
    same(read(ODD), content(ODD))


def put():
    write(place.out("put"), content("put", 100_000))


def multipart():
    write(place.out("multipart"), content("multipart", MULTIPART_BYTES))


def copy():
    client.copy_object(place.bucket, ONE, place.bucket, place.out("copy"))
    same(read(place.out("copy")), content(ONE))


def delete():
    write(place.out("deleted"), b"x")
    client.delete_object(place.bucket, place.out("deleted"))
    refused(lambda: read(place.out("deleted")), "does not exist")


def wrong_key():
    os.environ["AWS_SECRET_ACCESS_KEY"] = place.wrong().secret_key  # it reads no other place
    refused(lambda: read(ONE), "SignatureDoesNotMatch", "Forbidden")


main(globals())
