"""Runs in .venv-alluxio: does with one of Alluxio's clients what the test asks on stdin, and prints what came of it.

``python alluxio_client_session.py CLIENT HOST:PORT[,HOST:PORT]``, then one ``METHOD PATH`` a line. Each answer is a
line of JSON: a boolean, a state, or ``{"error": text}``.
"""

import json
import sys


def connect(kind, workers):
    if kind == "alluxio":
        from alluxio import AlluxioFileSystem

        host, _, port = workers.split(",")[0].partition(":")
        return AlluxioFileSystem(worker_hosts=host, worker_http_port=int(port))
    from alluxiofs.client.core import AlluxioClient

    return AlluxioClient(worker_hosts=workers)


def do(client, method, path):
    try:
        found = getattr(client, method)(path)
    except Exception as error:  # noqa: BLE001 - the clients raise this very class
        return {"error": str(error)}
    return found if isinstance(found, bool) else found[0].value


def main():
    client = connect(*sys.argv[1:])
    for line in sys.stdin:
        method, path = line.rstrip("\n").split(" ", 1)
        sys.stdout.write(json.dumps(do(client, method, path)) + "\n")
        sys.stdout.flush()


main()
