"""What is declared of a dataset: where it is, how it is kept, and when it is loaded. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from preheat.access import Grant, Role, parse_lifetime, parse_prefix
from preheat.datasets._schedule import check_deadline, check_schedule, deadline_after
from preheat.errors import InvalidPath, InvalidRequest
from preheat.jobs import JobOptions, JobSpec
from preheat.mounts import Freshness, Mount
from preheat.paths import UfsPath

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Rewarm(StrEnum):
    """After what a dataset that was loaded is loaded again, besides its schedule."""

    ALL = "all"  #: copies were lost, or the under store has changed
    LOST = "lost"  #: copies were lost: a worker left, or no longer has them
    DRIFT = "drift"  #: the under store has changed
    NONE = "none"  #: nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Preload:
    """Whether, what and when to load."""

    enabled: bool = False
    path: str = ""
    """Below the dataset's, in the place of its sub-paths."""
    schedule: str = ""
    """Cron; without one it is loaded as soon as it can be."""
    timezone: str = "UTC"
    order: str = ""
    """URI of a file that names the objects in the order in which they are to be loaded."""
    deadline: str = ""
    """By when a load has to end: ``06:00 Europe/Berlin``, or ``2h`` after it began."""
    rewarm: Rewarm = Rewarm.ALL

    def __post_init__(self) -> None:
        check_schedule(self.schedule, self.timezone)
        check_deadline(self.deadline)
        if self.order:
            UfsPath.parse(self.order)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A dataset as it was declared."""

    name: str
    path: str
    """URI of the prefix, ending with a slash."""
    sub_paths: tuple[str, ...] = ()
    """Prefixes and objects below the path that are loaded; none stand for all of it."""
    replicas: int = 1
    ttl: float | None = None
    """Seconds after the last load that succeeded until what is cached is freed; none keeps it."""
    quota: int | None = None
    """Bytes that all copies may have together; none is unlimited."""
    freshness: str = ""
    """When a reader may be given what is cached, as mounts write it; empty leaves it to the mounts."""
    preload: Preload = Preload()

    def __post_init__(self) -> None:
        check_name(self.name)
        if parse_prefix(self.path) != self.path:
            raise InvalidPath(f"path={self.path!r} is no prefix.", remedy=f"Write {parse_prefix(self.path)}.")
        for part in (*self.sub_paths, self.preload.path):
            _check_below(self.path, part)
        if self.replicas < 1:
            raise InvalidRequest(f"replicas={self.replicas} must be 1 or more.")
        if self.freshness:
            parse_freshness(self.freshness)

    @property
    def targets(self) -> tuple[str, ...]:
        """URIs of what is loaded."""
        if self.preload.path:
            return (self.path + self.preload.path,)
        return tuple(self.path + part for part in self.sub_paths) or (self.path,)

    @property
    def uris(self) -> tuple[str, ...]:
        """Every URI that it names."""
        return (self.path, *filter(None, (self.preload.order,)))

    @property
    def grant(self) -> Grant:
        """What its jobs may touch, whatever its order file names."""
        order = (f"{self.preload.order}/",) if self.preload.order else ()
        return Grant(role=Role.SUBMIT, prefixes=(self.path, *order))

    @property
    def content(self) -> tuple[object, ...]:
        """What a load of it depends on: two declarations that agree here have the same objects in the cache."""
        return self.targets, self.replicas, self.preload.order

    @property
    def looks_first(self) -> bool:
        """Whether each load needs the metadata before: to hold the quota, or since an order file tells of no others."""
        return bool(self.quota or self.preload.order)

    @property
    def rule(self) -> Mount | None:
        """What holds for its readers, as a mount without a name; none leaves that to the mounts."""
        if not self.freshness:
            return None
        freshness, max_age = parse_freshness(self.freshness)
        return Mount(name="", path=self.path, freshness=freshness, max_age=max_age)

    def metadata_spec(self) -> JobSpec:
        """Return the job that notes what there is."""
        return JobSpec(paths=self.targets, options=JobOptions(load_metadata_only=True))

    def load_spec(self, now: float) -> JobSpec:
        """Return the job that loads it from a moment on, in seconds since the epoch."""
        deadline = deadline_after(self.preload.deadline, now) if self.preload.deadline else None
        options = JobOptions(replicas=self.replicas, deadline=deadline)
        if self.preload.order:
            return JobSpec(index=self.preload.order, options=options)
        return JobSpec(paths=self.targets, options=options)


def check_name(name: str) -> None:
    """Refuse what is no dataset's name; raises InvalidRequest."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"name={name[:80]!r} is no dataset's name.",
            remedy="Use up to 63 letters, digits, '-' and '_', a letter or digit first.",
        )


def parse_freshness(text: str) -> tuple[Freshness, float]:
    """Return a policy, and the seconds of one such as ``max-age=10m``, else 0.

    Raises:
        InvalidRequest: it is neither.
    """
    policy, equals, age = text.partition("=")
    timed = policy == Freshness.MAX_AGE
    if policy not in set(Freshness) or timed is not bool(equals):
        raise InvalidRequest(
            f"freshness={text[:40]!r} is not known.",
            remedy="Write never-check, max-age=10m, always-check or pinned.",
        )
    return Freshness(policy), parse_lifetime(age, field=policy) if timed else 0.0


def below(path: str, part: str) -> str:
    """Return what a URI or a relative path adds to a dataset's path.

    Raises:
        InvalidPath: it is not below it.
    """
    if "://" not in part:
        return part
    uri = str(UfsPath.parse(part))
    if not uri.startswith(path):
        raise InvalidPath(f"path={part!r} is not below {path}.", remedy="Write one such as train/.")
    return uri.removeprefix(path)


def _check_below(path: str, part: str) -> None:
    if not {"..", ".", ""}.isdisjoint(part.removesuffix("/").split("/")) and part:
        raise InvalidPath(f"path={part!r} is not below {path}.", remedy="Write one such as train/.")
    UfsPath.parse(path + part)
