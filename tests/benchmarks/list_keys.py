"""Lists a path and prints how long it took: ``python -m tests.benchmarks.list_keys preheat|boto3 s3://bucket/prefix/``.

A process of its own for each listing, so that both start cold; imports are not part of the time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

import boto3

from preheat.paths import UfsPath
from preheat.ufs import UnderStores


def list_with_preheat(path: UfsPath) -> int:
    """Return how many objects the under store lists."""

    async def count() -> int:
        stores = UnderStores()
        try:
            return sum([len(page) async for page in stores.list(path)])
        finally:
            await stores.close()

    return asyncio.run(count())


def list_with_boto3(path: UfsPath) -> int:
    """Return how many objects boto3's paginator lists."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=path.bucket, Prefix=path.key)
    return sum(len(page["Contents"]) for page in pages)


LISTERS: dict[str, Callable[[UfsPath], int]] = {"preheat": list_with_preheat, "boto3": list_with_boto3}


def main() -> None:
    """List once, and print the result as JSON."""
    _, lister, uri = sys.argv
    cpu, started = time.process_time(), time.perf_counter()
    keys = LISTERS[lister](UfsPath.parse(uri))
    result = {"keys": keys, "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
