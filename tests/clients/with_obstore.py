"""obstore."""

from datetime import timedelta

import obstore
from obstore.store import S3Store
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, fetch_presigned, main, refused, same

place = Place.here()


def store_of(place):
    return S3Store(
        place.bucket,
        endpoint=place.endpoint,
        access_key_id=place.access_key,
        secret_access_key=place.secret_key,
        region=place.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


store = store_of(place)


def read(key, **options):
    return bytes(obstore.get(store, key, options=options).bytes())


def list_keys():
    found = {item["path"]: item["size"] for page in obstore.list(store, "data") for item in page}
    same(found, SIZES)


def list_delimiter():
    found = obstore.list_with_delimiter(store, "data")
    same(sorted(found["common_prefixes"]), ["data/odd", "data/sub"])
    same(sorted(item["path"] for item in found["objects"]), ["data/empty", "data/one.bin"])


def head():
    same(obstore.head(store, ONE)["size"], SIZES[ONE])
    refused(lambda: obstore.head(store, "data/none"), "NotFound")


def get():
    for key in SIZES:
        same(read(key), content(key))
    refused(lambda: read("data/none"), "NotFound")


def get_range():
    same(bytes(obstore.get_range(store, ONE, start=1000, end=2000)), content(ONE)[1000:2000])
    many = obstore.get_ranges(store, ONE, starts=[0, 200_000], ends=[10, 200_010])
    same([bytes(part) for part in many], [content(ONE)[:10], content(ONE)[200_000:200_010]])


def get_suffix():
    same(read(ONE, range={"suffix": 100}), content(ONE)[-100:])


def get_condition():
    etag = obstore.head(store, ONE)["e_tag"]
    same(read(ONE, if_match=etag), content(ONE))
    refused(lambda: read(ONE, if_none_match=etag), "NotModified")
    refused(lambda: read(ONE, if_match='"another"'), "Precondition")


def odd_name():
    same(read(ODD), content(ODD))


def put():
    data = content("put", 100_000)
    obstore.put(store, place.out("put"), data)
    same(read(place.out("put")), data)


def multipart():
    data = content("multipart", MULTIPART_BYTES)
    obstore.put(store, place.out("multipart"), data, use_multipart=True, chunk_size=5 << 20)
    same(read(place.out("multipart")), data)


def copy():
    obstore.copy(store, ODD, place.out("copy"))
    same(read(place.out("copy")), content(ODD))


def delete():
    for name in ("deleted", "deleted also"):
        obstore.put(store, place.out(name), b"x")
    obstore.delete(store, [place.out("deleted"), place.out("deleted also")])
    refused(lambda: read(place.out("deleted")), "NotFound")


def presigned():
    fetch_presigned(obstore.sign(store, "GET", ONE, timedelta(minutes=5)))


def wrong_key():
    refused(lambda: obstore.get(store_of(place.wrong()), ONE), "SignatureDoesNotMatch", "PermissionDenied")


main(globals(), list_buckets="a store is one bucket")
