"""What the sessions of s3fs and ``preheat://`` have in common: all filesystems of fsspec are used alike."""

from session import MULTIPART_BYTES, ODD, ONE, OPERATIONS, SIZES, content, refused, same


class Operations:
    """The operations that fsspec has calls for."""

    def __init__(self, fs, place):
        self.fs = fs
        self.place = place

    def named(self):
        """Return those that there are, by the names of ``session.OPERATIONS``."""
        return {name: getattr(self, name) for name in OPERATIONS if hasattr(self, name)}

    def path(self, key):
        """Return a key as fsspec names it."""
        return f"{self.place.bucket}/{key}"

    def list_keys(self):
        found = self.fs.find(self.path("data"), detail=True)
        same({name.removeprefix(self.path("")): item["size"] for name, item in found.items()}, SIZES)

    def list_delimiter(self):
        found = {name.removeprefix(self.path("")) for name in self.fs.ls(self.path("data/"), detail=False)}
        same(found, {"data/empty", "data/odd", "data/one.bin", "data/sub"})

    def head(self):
        same(self.fs.info(self.path(ONE))["size"], SIZES[ONE])
        same((self.fs.isdir(self.path("data/sub")), self.fs.exists(self.path("data/none"))), (True, False))

    def get(self):
        same(self.fs.cat([self.path(key) for key in SIZES]), {self.path(key): content(key) for key in SIZES})
        refused(lambda: self.fs.cat(self.path("data/none")), "FileNotFoundError", "ObjectNotFound")

    def get_range(self):
        same(self.fs.cat_file(self.path(ONE), start=1000, end=2000), content(ONE)[1000:2000])
        with self.fs.open(self.path(ONE), block_size=50_000) as file:
            file.seek(123_456)
            same(file.read(100_000), content(ONE)[123_456:223_456])

    def get_suffix(self):
        same(self.fs.cat_file(self.path(ONE), start=-100), content(ONE)[-100:])

    def odd_name(self):
        same(self.fs.cat(self.path(ODD)), content(ODD))

    def put(self):
        data, path = content("put", 100_000), self.path(self.place.out("put"))
        self.fs.pipe(path, data)
        same(self.fs.cat(path), data)

    def multipart(self):
        data, path = content("multipart", MULTIPART_BYTES), self.path(self.place.out("multipart"))
        with self.fs.open(path, "wb", block_size=5 << 20) as file:
            file.write(data)
        same(self.fs.cat(path), data)

    def copy(self):
        path = self.path(self.place.out("copy"))
        self.fs.copy(self.path(ODD), path)
        same(self.fs.cat(path), content(ODD))

    def delete(self):
        for name in ("gone/1", "gone/2"):
            self.fs.pipe(self.path(self.place.out(name)), b"x")
        self.fs.rm(self.path(self.place.out("gone")), recursive=True)
        same(self.fs.exists(self.path(self.place.out("gone/1"))), False)
