"""What libraries do with ``preheat://``, in a process of .venv-ecosystems: ``make DIR``, or a library's name and DIR.

``make`` writes the data sets to a directory. A library reads them below ``preheat://b/data/``, compares them with the
directory's, and prints what the filesystem counted. It has the workers' URLs in PREHEAT_WORKERS. Imports stand in the
functions, because each process needs one library.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import fsspec

ROOT = "preheat://b/data"
OPTIONS: dict[str, Any] = {"workers": os.environ.get("PREHEAT_WORKERS", "").split(",")}
SHARDS, ROWS = 3, 200


def make(directory: Path) -> None:
    import numpy as np
    import pandas as pd
    import zarr

    (directory / "parquet").mkdir(parents=True)
    (directory / "shards").mkdir()
    for shard in range(SHARDS):
        ids = np.arange(ROWS) + shard * ROWS
        frame = pd.DataFrame({"id": ids, "text": [f"row {number}" for number in ids], "value": ids * 0.5})
        frame.to_parquet(directory / "parquet" / f"{shard}.parquet")
        with tarfile.open(directory / "shards" / f"{shard}.tar", "w") as tar:
            for number in ids[:20]:
                for suffix, body in (("bin", bytes([number % 256]) * 1000), ("cls", str(number % 10).encode())):
                    entry = tarfile.TarInfo(f"{number:06}.{suffix}")
                    entry.size = len(body)
                    tar.addfile(entry, io.BytesIO(body))
    frame.to_csv(directory / "table.csv", index=False)
    frame.to_csv(directory / "table.csv.gz", index=False)
    array = zarr.create_array(directory / "array.zarr", shape=(100, 100), chunks=(25, 25), dtype="i8")
    array[:] = np.arange(10_000).reshape(100, 100)


def read_pandas(directory: Path) -> None:
    import pandas as pd

    for name in ("table.csv", "table.csv.gz"):
        assert pd.read_csv(f"{ROOT}/{name}", storage_options=OPTIONS).equals(pd.read_csv(directory / name))
    name = "parquet/0.parquet"
    expected = pd.read_parquet(directory / name)
    assert pd.read_parquet(f"{ROOT}/{name}", storage_options=OPTIONS).equals(expected)
    columns = pd.read_parquet(f"{ROOT}/{name}", columns=["value"], storage_options=OPTIONS)
    assert columns.equals(expected[["value"]])


def write_pandas(directory: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(directory / "table.csv")
    for name in ("written/p.csv", "written/p.csv.gz"):
        frame.to_csv(f"{ROOT}/{name}", index=False, storage_options=OPTIONS)
        assert pd.read_csv(f"{ROOT}/{name}", storage_options=OPTIONS).equals(frame)
    frame.to_parquet(f"{ROOT}/written/p.parquet", storage_options=OPTIONS)
    assert pd.read_parquet(f"{ROOT}/written/p.parquet", storage_options=OPTIONS).equals(frame)


def _arrow_filesystem() -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(fsspec.filesystem("preheat", **OPTIONS)))


def read_pyarrow(directory: Path) -> None:
    import pyarrow.dataset as ds

    found = ds.dataset("b/data/parquet", filesystem=_arrow_filesystem(), format="parquet")
    assert found.count_rows() == SHARDS * ROWS
    table = found.to_table(filter=ds.field("id") >= ROWS, columns=["id", "text"]).sort_by("id")
    assert table.column("text").to_pylist() == [f"row {number}" for number in range(ROWS, SHARDS * ROWS)]
    assert found.to_table().sort_by("id").equals(ds.dataset(directory / "parquet").to_table().sort_by("id"))


def write_pyarrow(directory: Path) -> None:
    import pyarrow.dataset as ds

    table = ds.dataset(directory / "parquet").to_table().sort_by("id")
    ds.write_dataset(table, "b/data/written/arrow", filesystem=_arrow_filesystem(), format="parquet")
    found = ds.dataset("b/data/written/arrow", filesystem=_arrow_filesystem(), format="parquet")
    assert found.to_table().sort_by("id").equals(table)


def read_duckdb(_: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("preheat", **OPTIONS))
        query = f"select count(*), sum(id), max(value) from read_parquet('{ROOT}/parquet/*.parquet')"
        rows = SHARDS * ROWS
        assert connection.execute(query).fetchone() == (rows, rows * (rows - 1) // 2, (rows - 1) / 2)
        assert connection.execute(f"select count(*) from read_csv('{ROOT}/table.csv')").fetchone() == (ROWS,)


def write_duckdb(_: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("preheat", **OPTIONS))
        connection.execute("create table numbers as select range as id from range(1000)")
        connection.execute(f"copy numbers to '{ROOT}/written/d.parquet' (format parquet)")
        assert connection.execute(f"select sum(id) from '{ROOT}/written/d.parquet'").fetchone() == (499_500,)


def read_polars(directory: Path) -> None:
    import polars as pl

    for name, read in (("parquet/1.parquet", pl.read_parquet), ("table.csv", pl.read_csv)):
        with fsspec.open(f"{ROOT}/{name}", **OPTIONS) as file:
            assert read(file).equals(read(directory / name))


def read_zarr(_: Path) -> None:
    import numpy as np
    import zarr

    store = zarr.storage.FsspecStore.from_url(f"{ROOT}/array.zarr", storage_options=OPTIONS, read_only=True)
    array = zarr.open_array(store, mode="r", zarr_format=3)  # without it, it looks for files of format 2, too
    expected = np.arange(10_000).reshape(100, 100)
    assert (array[:] == expected).all()
    assert (array[30:40, 80:] == expected[30:40, 80:]).all()


def write_zarr(_: Path) -> None:
    import numpy as np
    import zarr

    store = zarr.storage.FsspecStore.from_url(f"{ROOT}/written/w.zarr", storage_options=OPTIONS)
    group = zarr.create_group(store, overwrite=True)
    group.create_array("a", shape=(100, 100), chunks=(50, 50), dtype="i4")[:] = np.eye(100)
    assert zarr.open_group(store, mode="r")["a"][:].sum() == 100


def read_webdataset(_: Path) -> None:
    import webdataset as wds

    wds.gopen_schemes["preheat"] = lambda url, mode="rb", _=0, **__: fsspec.open(url, mode, **OPTIONS).open()
    shards = [f"{ROOT}/shards/{number}.tar" for number in range(SHARDS)]
    dataset = wds.WebDataset(shards, shardshuffle=False).to_tuple("__key__", "bin", "cls")
    found = [(key, body, int(label)) for key, body, label in dataset]
    numbers = [number + shard * ROWS for shard in range(SHARDS) for number in range(20)]
    assert found == [(f"{number:06}", bytes([number % 256]) * 1000, number % 10) for number in numbers]


def read_datasets(directory: Path) -> None:
    os.environ |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(directory / "hf"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    from datasets import load_dataset

    files = f"{ROOT}/parquet/*.parquet"
    expected = [f"row {number}" for number in range(SHARDS * ROWS)]
    for streaming in (True, False):
        found = load_dataset("parquet", data_files=files, split="train", streaming=streaming, storage_options=OPTIONS)
        assert [row["text"] for row in found] == expected


def read_torch(directory: Path) -> None:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Parts(Dataset):  # of a tar file, so that each item is another range
        def __len__(self) -> int:
            return 40

        def __getitem__(self, number: int) -> torch.Tensor:
            with fsspec.open(f"{ROOT}/shards/0.tar", **OPTIONS) as file:
                file.seek(512 * number)
                return torch.frombuffer(bytearray(file.read(512)), dtype=torch.uint8)

    expected = torch.frombuffer(bytearray((directory / "shards/0.tar").read_bytes()[: 40 * 512]), dtype=torch.uint8)
    fsspec.filesystem("preheat", **OPTIONS).cat_file(f"{ROOT}/table.csv")  # connections that the workers inherit
    loader = DataLoader(Parts(), batch_size=8, num_workers=2, multiprocessing_context="fork", persistent_workers=True)
    for _ in range(2):
        assert torch.cat(list(loader)).flatten().equal(expected)


def write_torch(_: Path) -> None:
    import torch

    model = torch.nn.Linear(1000, 1000)
    with fsspec.open(f"{ROOT}/written/checkpoint.pt", "wb", **OPTIONS) as file:
        torch.save(model.state_dict(), file)
    with fsspec.open(f"{ROOT}/written/checkpoint.pt", "rb", **OPTIONS) as file:
        assert torch.load(file)["weight"].equal(model.weight)


def refuse_origin(_: Path) -> None:
    try:
        fsspec.filesystem("preheat", fallback="origin", **OPTIONS)
    except ValueError as error:
        sys.stdout.write(str(error))


def counted() -> dict[str, int]:
    """Return what all filesystems of this process counted."""
    from preheat.fs import PreheatFileSystem

    filesystems = PreheatFileSystem._cache.values()
    return {name: sum(getattr(fs.stats, name) for fs in filesystems) for name in ("hits", "misses", "bytes")}


def main(action: str, directory: str) -> None:
    globals()[action](Path(directory))
    if action.startswith(("read_", "write_")):
        sys.stdout.write(json.dumps(counted()))
    if "pyarrow" in sys.modules:  # its threads may run on, and abort Python's end (apache/arrow issue 36389)
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
