"""Folders out of a flat listing, without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from preheat.fs._reader import RemoteObject
from preheat.paths import UfsPath

Info = dict[str, Any]
_LAST_CHARACTER = "\U0010ffff"


def under_store_path(name: str) -> UfsPath:
    """Return the path that a name in the filesystem stands for; raises InvalidPath."""
    return UfsPath.parse(f"file://{name}" if name.startswith("/") else f"s3://{name}")


def name_of(root: UfsPath, key: str) -> str:
    """Return a key's name in the filesystem: ``bucket/key``, or ``/absolute/path``."""
    return f"{root.bucket}/{key}"


def file_info(root: UfsPath, item: RemoteObject) -> Info:
    """Return fsspec's description of an object."""
    return {
        "name": name_of(root, item.key),
        "type": "file",
        "size": item.size,
        "etag": item.etag,
        "mtime": item.last_modified,
        "cached": item.cached,
    }


def directory_info(name: str) -> Info:
    """Return fsspec's description of a directory."""
    return {"name": name.rstrip("/"), "type": "directory", "size": 0}


def below(root: UfsPath) -> str:
    """Return the prefix of the keys below a directory."""
    return root.key if not root.key or root.key.endswith("/") else root.key + "/"


def child(root: UfsPath, item: RemoteObject) -> Info:
    """Return the direct child of a directory that an object below it is, or is in."""
    prefix = below(root)
    name, slash, _ = item.key.removeprefix(prefix).partition("/")
    return directory_info(name_of(root, prefix + name)) if slash else file_info(root, item)


def next_start(root: UfsPath, last_key: str) -> str:
    """Return the key after which a listing of direct children goes on: behind the child that a page ended in."""
    prefix = below(root)
    name, slash, _ = last_key.removeprefix(prefix).partition("/")
    return f"{prefix}{name}/{_LAST_CHARACTER}" if slash else last_key


def directories(root: UfsPath, files: Iterable[str]) -> dict[str, Info]:
    """Return the directories that the names of files below a root imply, the root included."""
    top = name_of(root, root.key).rstrip("/")
    found: set[str] = set()
    for name in files:
        parent = name.rpartition("/")[0]
        while len(parent) >= len(top) and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return {name: directory_info(name) for name in found}
