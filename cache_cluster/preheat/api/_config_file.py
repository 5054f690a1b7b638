"""``preheat.toml``: datasets and mounts that a file declares. It is read again when its content changes.

The content is compared, not the time: a ConfigMap's volume changes by a swap of symbolic links.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from preheat.access import parse_prefix
from preheat.api._datasets import DatasetBody, PreloadBody
from preheat.api._problems import sentence
from preheat.api._schemas import Schema, Text
from preheat.coordinator import Coordinator
from preheat.datasets import Dataset, parse_freshness
from preheat.errors import InvalidRequest, PreheatError
from preheat.logs import get_logger
from preheat.mounts import Freshness, Mount, WriteMode

log = get_logger("coordinator")
_LOOK_SECONDS = 2.0
_MAX_BYTES = 8 << 20


class FileMount(Schema):
    """One of ``[[mounts]]``."""

    name: Text
    path: Text = Field(max_length=2000)
    freshness: Text = Freshness.NEVER_CHECK.value
    writes: WriteMode = WriteMode.READ_ONLY
    write_replicas: Annotated[int, Field(ge=1, le=10)] = 1
    temporary: list[Text] = Field(default_factory=list, max_length=100)

    def to_mount(self) -> Mount:
        """Return the mount as the coordinator takes it."""
        freshness, max_age = parse_freshness(self.freshness)
        return Mount(
            name=self.name,
            path=parse_prefix(self.path),
            freshness=freshness,
            max_age=max_age,
            writes=self.writes,
            write_replicas=self.write_replicas,
            temporary=tuple(dict.fromkeys(self.temporary)),
        )


class FileBody(Schema):
    """All that a file may have."""

    datasets: dict[str, DatasetBody] = Field(default_factory=dict)
    mounts: list[FileMount] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What a file declares."""

    datasets: tuple[Dataset, ...]
    mounts: tuple[Mount, ...]
    digest: str
    """Of the file's content."""


def read_config(file: Path) -> Config:
    """Read a file.

    Raises:
        InvalidRequest: it cannot be read, or has something that is not known; the message names file and key.
    """
    content = _content(file)
    try:
        tables = tomllib.loads(content.decode())
        body = FileBody.model_validate(tables)
        datasets = tuple(_dataset(name, item) for name, item in body.datasets.items())
        mounts = _mounts(body.mounts)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file}: it is no TOML: {error}.", remedy="Correct it at that place.") from error
    except ValidationError as error:
        found = error.errors()
        raise InvalidRequest(f"{file}: {'; '.join(map(_sentence, found))}.", remedy=_remedy(found)) from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{file}: {error.message}", remedy=error.remedy) from error
    return Config(datasets=datasets, mounts=mounts, digest=sha256(content).hexdigest())


async def follow_config(
    coordinator: Coordinator, file: Path, first: Config, *, look_seconds: float = _LOOK_SECONDS
) -> None:
    """Declare what a file has, now and whenever it has changed, until cancelled.

    What cannot be read is told once, and what it said before holds on.
    """
    config, applied, refused = first, "", ""
    while True:
        if config.digest != applied:
            applied = await _apply(coordinator, config, applied)
        await asyncio.sleep(look_seconds)
        try:
            config = await asyncio.to_thread(read_config, file)
            refused = ""
        except InvalidRequest as error:
            if str(error) != refused:
                log.warning("The configuration is not taken over.", action="config_refused", error=str(error))
            refused = str(error)


async def _apply(coordinator: Coordinator, config: Config, applied: str) -> str:
    """Return the digest of what is declared now."""
    try:
        await coordinator.declared_file.apply(datasets=config.datasets, mounts=config.mounts)
    except PreheatError as error:
        log.warning("The configuration is not taken over yet.", action="config_late", error=str(error))
        return applied
    counts = {"datasets": len(config.datasets), "mounts": len(config.mounts)}
    log.info("The configuration was taken over.", action="config_applied", **counts)
    return config.digest


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(
            f"{file}: it cannot be read: {error.strerror}.", remedy="Correct --config (PREHEAT_CONFIG)."
        ) from error
    if len(content) > _MAX_BYTES:
        raise InvalidRequest(f"{file}: it has more than {_MAX_BYTES >> 20} MiB.")
    return content


def _dataset(name: str, body: DatasetBody) -> Dataset:
    try:
        return body.to_dataset(name)
    except InvalidRequest as error:
        raise InvalidRequest(f"datasets.{name}: {error.message}", remedy=error.remedy) from error


def _mounts(items: list[FileMount]) -> tuple[Mount, ...]:
    """Return the mounts; raises InvalidRequest if two have one name or one path, for only one of them could hold."""
    mounts: list[Mount] = []
    for number, mount in enumerate(item.to_mount() for item in items):
        for place, other in enumerate(mounts):
            if same := [key for key in ("name", "path") if getattr(mount, key) == getattr(other, key)]:
                value = getattr(mount, same[0])
                raise InvalidRequest(
                    f"mounts.{number}: {same[0]}={value!r} is that of mounts.{place} too, so that "
                    f"{other.name} ({other.path}) and {mount.name} ({mount.path}) could not both hold.",
                    remedy=f"Give one of them another {same[0]}, or take it out.",
                )
        mounts.append(mount)
    return tuple(mounts)


def _sentence(found: Mapping[str, Any]) -> str:
    return sentence({**found, "loc": ("file", *found["loc"])})


def _remedy(found: list[Any]) -> str:
    """Return what may stand where something else does."""
    unknown = next((item["loc"] for item in found if item["type"] == "extra_forbidden"), None)
    if unknown is None:
        return "See the page on declaring datasets."
    table = _table(unknown)
    return f"Known there: {', '.join(field.alias or name for name, field in table.model_fields.items())}."


def _table(key: tuple[Any, ...]) -> type[BaseModel]:
    match key:
        case ("datasets", _, "preload", *_):
            return PreloadBody
        case ("datasets", *_):
            return DatasetBody
        case ("mounts", *_):
            return FileMount
        case _:
            return FileBody
