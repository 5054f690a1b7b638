"""pyarrow.fs.S3FileSystem."""

from pyarrow.fs import FileSelector, FileType, S3FileSystem
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()


def filesystem(place):
    return S3FileSystem(
        access_key=place.access_key,
        secret_key=place.secret_key,
        endpoint_override=place.address,
        region=place.region,
        scheme="http",
        force_virtual_addressing=False,
    )


fs = filesystem(place)


def path(key):
    return f"{place.bucket}/{key}"


def read(key):
    with fs.open_input_stream(path(key)) as stream:
        return stream.read()


def write(key, data):
    with fs.open_output_stream(path(key)) as stream:
        stream.write(data)


def list_buckets():
    assert place.bucket in [found.path for found in fs.get_file_info(FileSelector(""))]


def list_keys():
    found = fs.get_file_info(FileSelector(path("data"), recursive=True))
    files = {item.path.removeprefix(path("")): item.size for item in found if item.type == FileType.File}
    same(files, SIZES)


def list_delimiter():
    found = {item.path.removeprefix(path("")) for item in fs.get_file_info(FileSelector(path("data")))}
    same(found, {"data/empty", "data/odd", "data/one.bin", "data/sub"})


def head():
    kinds = [fs.get_file_info(path(key)).type for key in (ONE, "data/sub", "data/none")]
    same(kinds, [FileType.File, FileType.Directory, FileType.NotFound])
    same(fs.get_file_info(path(ONE)).size, SIZES[ONE])


def get():
    for key in SIZES:
        same(read(key), content(key))
    refused(lambda: read("data/none"), "FileNotFoundError")


def get_range():
    with fs.open_input_file(path(ONE)) as file:
        same(file.read_at(1000, 1000), content(ONE)[1000:2000])


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
    fs.copy_file(path(ONE), path(place.out("copy")))
    same(read(place.out("copy")), content(ONE))


def delete():
    write(place.out("deleted"), b"x")
    fs.delete_file(path(place.out("deleted")))
    same(fs.get_file_info(path(place.out("deleted"))).type, FileType.NotFound)


def wrong_key():
    refused(lambda: filesystem(place.wrong()).open_input_stream(path(ONE)), "ACCESS_DENIED", "403", "SignatureDoesNot")


main(globals())
