"""Reads files with fsspec's ``cat`` and prints how long it took. The same script for every filesystem and environment.

It reads a JSON object from stdin (``protocol``, ``options``, ``paths``) and prints one: ``seconds``, ``cpu``, and
``digest``, the SHA-256 of all contents in the order of the paths. One file is read before the clock starts, so that
connections, credentials and tables are there.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time

import fsspec


def main() -> None:
    """Do what stdin asks for."""
    order = json.load(sys.stdin)
    paths = order["paths"]
    filesystem = fsspec.filesystem(order["protocol"], **order["options"])
    filesystem.cat_file(paths[0])
    cpu, started = time.process_time(), time.perf_counter()
    contents = filesystem.cat(paths)
    result = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    digest = hashlib.sha256()
    for path in paths:
        digest.update(contents[path])
    json.dump({**result, "digest": digest.hexdigest()}, sys.stdout)


if __name__ == "__main__":
    main()
