"""Runs in .venv-alluxio: does with one of Alluxio's clients what the test asks on stdin, and prints what came of it.

``python alluxio_client_session.py CLIENT HOST,HOST PORT``, then one call a line: a JSON list of the method's name, its
arguments and its keyword arguments. Each answer is a line of JSON; bytes are ``{"base64": text}`` in both directions,
an error is ``{"error": text, "type": name}``.
"""

import base64
import json
import os
import sys
from enum import Enum


def connect(kind, hosts, port):
    if kind == "alluxio":
        from alluxio import AlluxioFileSystem

        return AlluxioFileSystem(worker_hosts=hosts, worker_http_port=int(port))
    workers = ",".join(f"{host}:{port}" for host in hosts.split(","))
    if kind == "alluxiofs-client":
        from alluxiofs.client.core import AlluxioClient

        return AlluxioClient(worker_hosts=workers)
    from alluxiofs import AlluxioFileSystem  # neither fs nor target_protocol: nothing to fall back to

    return AlluxioFileSystem(worker_hosts=workers)


def do(client, method, arguments, options):
    if method == "open_and_read":  # reads [start, end) by seeking in an open file
        path, start, end = arguments
        with client.open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)
    if method == "rm" and hasattr(client, "data_manager"):  # the client's, which takes its options as an object
        from alluxiofs.core import RMOption

        return client.rm(*arguments, RMOption(**options))
    return getattr(client, method)(*arguments, **options)


def decoded(value):
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and "base64" in value else value


def shown(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, tuple):  # of load_progress: a state and what else the worker said
        return shown(value[0])
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [shown(item) for item in value]
    return shown(vars(value)) if hasattr(value, "__dict__") else value


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the clients print
    client = connect(*sys.argv[1:])
    for line in sys.stdin:
        method, arguments, options = json.loads(line)
        try:
            answer = shown(do(client, method, [decoded(argument) for argument in arguments], options))
        except Exception as error:  # noqa: BLE001 - the clients raise this very class
            answer = {"error": str(error), "type": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
