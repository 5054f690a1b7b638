"""preheat://, the filesystem of the package preheat."""

import os

import fsspec
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()
fs = fsspec.filesystem("preheat")


def path(key):
    return f"{place.bucket}/{key}"


def list_keys():
    found = fs.find(path("data"), detail=True)
    same({name.removeprefix(path("")): item["size"] for name, item in found.items()}, SIZES)


def list_delimiter():
    found = {name.removeprefix(path("")) for name in fs.ls(path("data/"), detail=False)}
    same(found, {"data/empty", "data/odd", "data/one.bin", "data/sub"})


def head():
    same(fs.info(path(ONE))["size"], SIZES[ONE])
    same((fs.isdir(path("data/sub")), fs.exists(path("data/none"))), (True, False))


def get():
    same(fs.cat([path(key) for key in SIZES]), {path(key): content(key) for key in SIZES})
    refused(lambda: fs.cat(path("data/none")), "FileNotFoundError", "ObjectNotFound")


def get_range():
    same(fs.cat_file(path(ONE), start=1000, end=2000), content(ONE)[1000:2000])


def get_suffix():
    same(fs.cat_file(path(ONE), start=-100), content(ONE)[-100:])


def odd_name():
    same(fs.cat(path(ODD)), content(ODD))


def put():
    data = content("put", 100_000)
    fs.pipe(path(place.out("put")), data)
    same(fs.cat(path(place.out("put"))), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    with fs.open(path(place.out("multipart")), "wb", block_size=5 << 20) as file:
        file.write(data)
    same(fs.cat(path(place.out("multipart"))), data)


def copy():
    fs.copy(path(ODD), path(place.out("copy")))
    same(fs.cat(path(place.out("copy"))), content(ODD))


def delete():
    for name in ("gone/1", "gone/2"):
        fs.pipe(path(place.out(name)), b"x")
    fs.rm(path(place.out("gone")), recursive=True)
    same(fs.exists(path(place.out("gone/1"))), False)


def wrong_key():
    token = os.environ["PREHEAT_TOKEN"]
    wrong = fsspec.filesystem("preheat", token=token[:-4] + "beef", skip_instance_cache=True)
    refused(lambda: wrong.cat(path(ONE)), "Unauthenticated")


main(globals(), list_buckets="a path begins with its bucket")
