"""s3fs."""

import s3fs
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, fetch_presigned, main, refused, same

place = Place.here()


def filesystem(place):
    return s3fs.S3FileSystem(
        key=place.access_key,
        secret=place.secret_key,
        endpoint_url=place.endpoint,
        client_kwargs={"region_name": place.region},
        config_kwargs={"retries": {"total_max_attempts": 1}},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


fs = filesystem(place)


def path(key):
    return f"{place.bucket}/{key}"


def list_buckets():
    assert place.bucket in fs.ls("")


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
    refused(lambda: fs.cat(path("data/none")), "FileNotFoundError")


def get_range():
    same(fs.cat_file(path(ONE), start=1000, end=2000), content(ONE)[1000:2000])
    with fs.open(path(ONE), block_size=50_000) as file:
        file.seek(123_456)
        same(file.read(100_000), content(ONE)[123_456:223_456])


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


def presigned():
    fetch_presigned(fs.sign(path(ONE), expiration=100))


def wrong_key():
    refused(lambda: filesystem(place.wrong()).cat(path(ONE)), "PermissionError", "SignatureDoesNotMatch")


main(globals())
