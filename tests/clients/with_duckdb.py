"""DuckDB with its extension httpfs."""

from importlib.resources import files
from pathlib import Path

import duckdb
from session import MULTIPART_BYTES, ODD, ONE, SIZES, Place, content, main, refused, same

place = Place.here()


# In the package; without it DuckDB would fetch it from the network.
EXTENSION = next(Path(str(files("duckdb_extension_httpfs"))).rglob("httpfs.duckdb_extension"))


def connection(place):
    connected = duckdb.connect()
    connected.execute(f"LOAD '{EXTENSION}'")
    connected.execute("SET http_retries = 0")
    connected.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{place.access_key}', SECRET '{place.secret_key}', REGION '{place.region}',"
        f" ENDPOINT '{place.address}', URL_STYLE 'path', USE_SSL false)"
    )
    return connected


db = connection(place)


def uri(key):
    return f"s3://{place.bucket}/{key}"


def read(key, db=db):
    return db.execute("SELECT content FROM read_blob(?)", [uri(key)]).fetchone()[0]


def globbed(pattern):
    found = db.execute("SELECT file FROM glob(?)", [uri(pattern)]).fetchall()
    return sorted(name.removeprefix(uri("")) for (name,) in found)


def list_keys():
    same(globbed("data/**"), sorted(SIZES))


def head():
    size = db.execute("SELECT size FROM read_blob(?)", [uri(ONE)]).fetchone()[0]
    same(size, SIZES[ONE])


def get():
    for key in (ONE, "data/sub/two.txt"):
        same(read(key), content(key))
    refused(lambda: read("data/none"), "404", "No files found")


def get_range():
    table = uri(place.out("table.parquet"))
    db.execute(f"COPY (SELECT range AS a, range * 2 AS b FROM range(300000)) TO '{table}' (FORMAT parquet)")
    same(db.execute(f"SELECT sum(b) FROM '{table}' WHERE a < 10").fetchone()[0], 90)


def odd_name():
    same(read(ODD), content(ODD))


def put():
    db.execute(f"COPY (SELECT 'x' AS a) TO '{uri(place.out('put.csv'))}' (FORMAT csv)")
    same(read(place.out("put.csv")), b"a\nx\n")


def multipart():
    rows = MULTIPART_BYTES // 10
    table = uri(place.out("multipart.csv"))
    db.execute(f"COPY (SELECT 1000000000 + range AS a FROM range({rows})) TO '{table}' (FORMAT csv)")
    same(db.execute(f"SELECT count(*), max(a) FROM '{table}'").fetchone(), (rows, 1000000000 + rows - 1))


def wrong_key():
    refused(lambda: read(ONE, connection(place.wrong())), "403", "Forbidden")


main(globals())
