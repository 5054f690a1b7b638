"""alluxiofs, Alluxio's filesystem for fsspec, without another one to fall back to."""

import os

from alluxiofs import AlluxioFileSystem
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()
fs = AlluxioFileSystem(worker_hosts=os.environ["WORKERS"])


def uri(key):
    return f"s3://{place.bucket}/{key}"


def list_delimiter():
    found = {item["name"].rpartition("/")[2] for item in fs.ls(uri("data/"), detail=True)}
    same(found, {"empty", "odd", "one.bin", "sub"})


def head():
    same(fs.info(uri(ONE))["size"], SIZES[ONE])
    refused(lambda: fs.info(uri("data/none")), "none")


def get():
    for key in (ONE, "data/sub/two.txt"):
        same(fs.read_bytes(uri(key)), content(key))


def get_range():
    same(fs.cat_file(uri(ONE), 1000, 2000), content(ONE)[1000:2000])
    with fs.open(uri(ONE)) as file:
        file.seek(123_456)
        same(file.read(1000), content(ONE)[123_456:124_456])


def get_suffix():
    same(fs.tail(uri(ONE), 100), content(ONE)[-100:])


def odd_name():
    same(fs.read_bytes(uri(ODD)), content(ODD))


def write(name, size):
    data = content(name, size)
    fs.write_bytes(uri(place.out(name)), data)
    same(fs.read_bytes(uri(place.out(name))), data)


def copy():
    fs.copy(uri(ONE), uri(place.out("copy")))
    same(fs.read_bytes(uri(place.out("copy"))), content(ONE))


def delete():
    fs.write_bytes(uri(place.out("deleted")), b"x")
    fs.rm(uri(place.out("deleted")))
    same(fs.exists(uri(place.out("deleted"))), False)


def put():
    write("put", 100_000)


def multipart():
    write("multipart", MULTIPART_BYTES)


main(
    globals(),
    list_keys="`find` fails in the client: it takes paths with a scheme, and its own listings have none",
    wrong_key="the client sends no credentials",
)
