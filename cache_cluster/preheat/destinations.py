"""Where the objects of a copy or a move go: the rules of ``cp -r`` and ``aws s3 cp --recursive``.

=====================  ==================  =====================================
path                   destination         an object → its target
=====================  ==================  =====================================
``s3://a/dir/``        ``s3://b/y[/]``     ``dir/k`` → ``y/k``
``s3://a/p/x``         ``s3://b/y``        ``p/x`` → ``y``, ``p/x/k`` → ``y/k``
``s3://a/p/x``         ``s3://b/d/``       ``p/x`` → ``d/x``, ``p/x/k`` → ``d/x/k``
=====================  ==================  =====================================

A bucket alone is a directory. Whether a directory exists at the destination does not matter, unlike with ``cp -r``.
"""

from __future__ import annotations

import re

from preheat.errors import InvalidPath, InvalidRequest
from preheat.paths import UfsPath


def target(path: str, destination: str, key: str) -> UfsPath:
    """Return where a copy of an object goes.

    Args:
        path: what the job copies.
        destination: where to.
        key: the object, at or below the path.

    Raises:
        InvalidPath: the destination cannot hold it under this name, or it would overwrite an object of the path.
    """
    source = UfsPath.parse(path)
    if not _holds(source, key):
        raise InvalidPath(f"key={key!r} is not at or below path={path!r}.")
    start = base(source, UfsPath.parse(destination))
    goal = UfsPath.parse(str(start.with_key(start.key + key[len(source.key) :])))
    _check_name(key, goal, goal.key[max(len(start.key) - 1, 0) :])
    if _covers(source, goal):
        raise InvalidPath(
            f"key={key!r} would be written to '{goal}', which is at or below path={path!r} itself.",
            remedy="Copy it to another place first.",
        )
    return goal


def check(path: str, destination: str) -> None:
    """Refuse a destination that is the path itself or inside it, for a copy would then copy its own copies.

    A path inside the destination is allowed, as in ``mv d/sub/* d/``; :func:`target` refuses those of its objects that
    would overwrite others of the path.

    Raises:
        InvalidRequest: naming both.
        InvalidPath: one of them is no path.
    """
    source = UfsPath.parse(path)
    if _covers(source, base(source, UfsPath.parse(destination))):
        raise InvalidRequest(
            f"destination={destination!r} is the same as path={path!r}, or inside it.",
            remedy="Name a destination outside of the path.",
        )


def base(source: UfsPath, destination: UfsPath) -> UfsPath:
    """Return what takes the place of the source's own key at the beginning of each key."""
    key = destination.key
    if _is_directory(source):
        return destination if _is_directory(destination) else destination.with_key(f"{key}/")
    if _is_directory(destination):
        return destination.with_key(key + source.key.rpartition("/")[2])
    return destination


def _is_directory(path: UfsPath) -> bool:
    return not path.key or path.key.endswith("/")


def _holds(path: UfsPath, key: str) -> bool:
    """Whether a key is among those that the path stands for."""
    if _is_directory(path):
        return key.startswith(path.key)
    return key == path.key or key.startswith(f"{path.key}/")


def _covers(path: UfsPath, other: UfsPath) -> bool:
    """Whether another path is among what the path stands for."""
    same_place = (path.scheme, path.bucket) == (other.scheme, other.bucket)
    return same_place and _holds(_normal(path), _normal(other).key)


def _normal(path: UfsPath) -> UfsPath:
    """Return the one spelling of a path; for files repeated slashes are one."""
    return path.with_key(re.sub("/+", "/", path.key)) if path.scheme == "file" else path


def _check_name(key: str, goal: UfsPath, name: str) -> None:
    """Refuse a name that a file system would take for another; those that lead elsewhere, UfsPath refuses."""
    if not goal.key or (goal.scheme == "file" and ("//" in name or name.endswith("/"))):
        raise InvalidPath(f"key={key!r} has a part without a name, so '{goal}' cannot be written.", remedy="Rename it.")
