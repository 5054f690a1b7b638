"""What the sessions of the clients share: the data, the operations, and how the outcomes are told.

A session is a script that runs in the environment of its client, so that this file needs nothing but Python. It says
for each operation how the client does it, and prints one line of JSON for each.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import shake_128
from pathlib import Path

OPERATIONS = {
    "list_buckets": "list buckets",
    "list_keys": "list",
    "list_delimiter": "list, delimiter",
    "head": "head",
    "get": "get",
    "get_range": "get, range",
    "get_suffix": "get, suffix",
    "get_condition": "get, condition",
    "odd_name": "odd name",
    "put": "put",
    "multipart": "multipart put",
    "copy": "copy",
    "delete": "delete",
    "presigned": "presigned get",
    "wrong_key": "wrong key refused",
}
"""The columns of the table by their ids."""
ONE, TWO, EMPTY, ODD = "data/one.bin", "data/sub/two.txt", "data/empty", "data/odd/a b+50%25&=ä'(1).txt"
SIZES = {ONE: 300_000, TWO: 1000, "data/sub/deep/three.txt": 10, EMPTY: 0, ODD: 100}
"""The objects that are there when a session begins, and their sizes in bytes."""
MULTIPART_BYTES = 11 << 20
_NO_CALL = "the client has no such call"
_MAX_REASON = 300
_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a session works, and as whom."""

    client: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str

    @classmethod
    def here(cls) -> "Place":
        """Return what the environment says."""
        return cls(
            client=Path(sys.argv[0]).stem,
            endpoint=os.environ["AWS_ENDPOINT_URL"],
            bucket=os.environ["BUCKET"],
            access_key=os.environ["AWS_ACCESS_KEY_ID"],
            secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region=os.environ["AWS_REGION"],
        )

    @property
    def address(self) -> str:
        """Host and port."""
        return self.endpoint.partition("://")[2]

    def wrong(self) -> "Place":
        """Return the same with another secret."""
        return replace(self, secret_key="wrong" + self.secret_key[5:])

    def out(self, name: str) -> str:
        """Return the key of something that this session writes."""
        return f"out/{self.client}/{name}"


def content(name: str, size: int | None = None) -> bytes:
    """Return the bytes of an object: those of no two names are alike."""
    return shake_128(name.encode()).digest(SIZES[name] if size is None else size)


def same(found: object, wanted: object) -> None:
    """Fail unless both are equal."""
    if found != wanted:
        raise AssertionError(f"found {_shown(found)}, not {_shown(wanted)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 120 else f"{text[:100]}… ({len(value)})"


def refused(call: Callable[[], object], *words: str) -> None:
    """Fail unless a call fails, for a reason in which one of the words stands."""
    try:
        call()
    except Exception as error:
        text = f"{type(error).__name__} {error}"
        if not any(word in text for word in words):
            raise
        return
    raise AssertionError("it was not refused")


def run(*command: str, data: bytes | None = None, **environment: str) -> bytes:
    """Return what a command of the client's environment prints."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]],
        input=data,
        capture_output=True,
        timeout=_SECONDS,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr + done.stdout).decode(errors="replace"))
    return done.stdout


def fetch(url: str) -> bytes:
    """Return what is at a presigned URL."""
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
        return answer.read()


def fetch_presigned(url: str) -> None:
    """Fail unless a presigned URL of the first object gives it, and only that."""
    same(fetch(url), content(ONE))
    try:
        fetch(url.replace("one.bin", "two.bin"))
    except urllib.error.HTTPError as error:
        same(error.code, 403)
        return
    raise AssertionError("the signature was good for another object")


def main(names: Mapping[str, object], **reasons: str) -> None:
    """Try each operation, in order, and print what came of it.

    Args:
        names: of a session, in which functions are named as the operations that they try.
        reasons: why the client does not do others; by default it has no such call.
    """
    for name in OPERATIONS:
        operation = names.get(name)
        outcome = {"operation": name, "reason": "", "failed": False}
        if not callable(operation):
            outcome["reason"] = reasons.get(name, _NO_CALL)
        else:
            try:
                operation()
            except Exception as error:  # noqa: BLE001 - whatever the client raises is what came of it
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                outcome.update(reason=reason[:_MAX_REASON], failed=True)
        sys.stdout.write(json.dumps(outcome) + "\n")
