"""alluxio, the first Python client of Alluxio."""

import os

from alluxio import AlluxioFileSystem
from session import ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()
host, _, port = os.environ["WORKERS"].split(",")[-1].partition(":")
fs = AlluxioFileSystem(worker_hosts=host, worker_http_port=int(port))


def uri(key):
    return f"s3://{place.bucket}/{key}"


def list_delimiter():
    found = {(item.name, item.type) for item in fs.listdir(uri("data/"))}
    same(found, {("empty", "file"), ("odd", "directory"), ("one.bin", "file"), ("sub", "directory")})


def head():
    same(fs.get_file_status(uri(ONE)).length, SIZES[ONE])
    refused(lambda: fs.get_file_status(uri("data/none")), "none")


def get():
    for key in (ONE, "data/sub/two.txt"):
        same(fs.read(uri(key)), content(key))


def get_range():
    same(fs.read_range(uri(ONE), 1000, 1000), content(ONE)[1000:2000])


def odd_name():
    same(fs.read(uri(ODD)), content(ODD))


def put():
    path, data = uri(place.out("put")), content("put", 100_000)
    refused(lambda: fs.get_file_status(path), "500")  # tells the worker what the hash stands for that a write sends
    same(fs.write_page(path, 0, data), True)
    same(fs.read(path), data)


main(globals(), wrong_key="the client sends no credentials")
