"""Uploads in parts: the parts wait here until they are made one object; nothing of them outlives the process."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from preheat.attributes import NONE, Attributes
from preheat.errors import Conflict, InvalidRequest, NotFound, Overloaded
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.settings import WriteSettings
from preheat.versions import ObjectInfo
from preheat.worker.writes._body import Joined
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._staging import Staged

log = get_logger("worker")
MAX_PARTS = 10_000
_MAX_COMPLETED = 1000
"""Uploads of which it is remembered what they have become."""


class UploadNotFound(NotFound):
    """There is no such upload: it was completed or aborted, nothing came for long, or its worker was restarted."""

    code = "no_such_upload"
    default_remedy = "Start another upload."


class InvalidPart(InvalidRequest):
    """A part that was named was not uploaded, or has another etag."""

    code = "invalid_part"


class InvalidPartOrder(InvalidRequest):
    """The parts are not named in the order of their numbers."""

    code = "invalid_part_order"


class PartTooSmall(InvalidRequest):
    """A part other than the last one is smaller than S3 takes."""

    code = "entity_too_small"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part that was uploaded."""

    number: int
    etag: str
    size: int
    """Bytes."""
    last_modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An upload that was begun."""

    path: str
    """URI of what it is to become."""
    id: str
    started_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A wish to make an upload an object."""

    path: str
    """URI of the object."""
    upload_id: str
    parts: tuple[tuple[int, str], ...]
    """Their numbers and etags, in order."""
    condition: Condition = ALWAYS

    def is_again(self, first: Completion) -> bool:
        """Whether it asks for the same as another one."""
        same = (self.path, _bare(self.parts), self.condition) == (first.path, _bare(first.parts), first.condition)
        return same and self.upload_id == first.upload_id

    def check_joins(self, first: Completion) -> None:
        """Return if this is answered by what another one is answered, for the same path and etags of parts.

        Raises:
            InvalidPart: it names other parts.
            Conflict: it has another condition.
        """
        if _bare(self.parts) != _bare(first.parts):
            raise InvalidPart("The upload is being completed with other parts.")
        if self.condition != first.condition:
            raise Conflict("The upload is being completed under another condition.")


@dataclass(kw_only=True)
class _Open:
    upload: Upload
    attributes: Attributes
    touched_at: float
    uses: int = 0
    """What goes on with it now: parts that are coming, and its completion."""
    parts: dict[int, tuple[Part, Staged]] = field(default_factory=dict)

    def close(self) -> None:
        for _, staged in self.parts.values():
            staged.close()


class Uploads:
    """The uploads that were begun at this worker, whose id is in theirs, so that the others know where to send parts.

    Args:
        worker_id: this worker.
        min_part_bytes: what each part but the last one must have at least; S3 wants 5 MiB.
        most: how many there may be at once.
        idle_seconds: how long nothing may come to one.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        min_part_bytes: int = 5 << 20,
        most: int = WriteSettings.open_uploads,
        idle_seconds: float = WriteSettings.upload_idle_seconds,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._worker_id = worker_id
        self._most = most
        self.idle_seconds = idle_seconds
        self._min_part_bytes = min_part_bytes
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._completed: OrderedDict[str, tuple[Completion, ObjectInfo]] = OrderedDict()

    def create(self, path: UfsPath, attributes: Attributes = NONE) -> str:
        """Begin an upload and return its id.

        Raises:
            Overloaded: there are too many.
        """
        if len(self._open) >= self._most:
            self.expire()
        if len(self._open) >= self._most:
            raise Overloaded(
                f"{len(self._open)} uploads in parts are open here, as many as may be.",
                remedy="Complete or abort some (GET /v1/uploads names them; those to which nothing comes end after "
                "--upload-idle), or raise --max-uploads of `preheat worker`.",
            )
        upload_id, now = f"{secrets.token_hex(16)}.{self._worker_id}", self._clock()
        upload = Upload(path=str(path), id=upload_id, started_at=now)
        self._open[upload_id] = _Open(upload=upload, attributes=attributes, touched_at=now)
        return upload_id

    def add(self, path: UfsPath, upload_id: str, number: int, staged: Staged) -> str:
        """Keep a part, in place of an earlier one of its number, and return its etag.

        Raises:
            UploadNotFound: there is no such upload.
            InvalidRequest: the number is none from 1 to 10,000.
        """
        check_number(number)
        opened = self._find(path, upload_id)
        earlier = opened.parts.get(number)
        opened.touched_at = now = self._clock()
        part = Part(number=number, etag=staged.etag, size=staged.size, last_modified=now)
        opened.parts[number] = (part, staged)
        if earlier:
            earlier[1].close()
        return part.etag

    def parts(self, path: UfsPath, upload_id: str) -> list[Part]:
        """Return the parts that are there, in order; raises UploadNotFound."""
        return [part for _, (part, _) in sorted(self._find(path, upload_id).parts.items())]

    def begun(self, prefix: str) -> list[Upload]:
        """Return the uploads of paths that begin with a URI, in their order."""
        found = [opened.upload for opened in self._open.values() if opened.upload.path.startswith(prefix)]
        return sorted(found, key=lambda upload: (upload.path, upload.started_at))

    def attributes(self, completion: Completion) -> Attributes:
        """Return what was said of the object when its upload began; raises UploadNotFound."""
        return self._find(completion.path, completion.upload_id).attributes

    def join(self, completion: Completion) -> Joined:
        """Return the parts that are named as one body; they stay until :meth:`end`.

        Raises:
            UploadNotFound: there is no such upload.
            InvalidPart, InvalidPartOrder, PartTooSmall: as named.
            InvalidRequest: no part is named.
        """
        opened, named = self._find(completion.path, completion.upload_id), completion.parts
        if not named:
            raise InvalidRequest("An upload needs at least one part.")
        for (before, _), (number, _) in pairwise(named):
            if number <= before:
                raise InvalidPartOrder(f"The part {number} is named after {before}.")
        chosen = [_chosen(opened, number, etag) for number, etag in named]
        for part, _ in chosen[:-1]:
            if part.size < self._min_part_bytes:
                raise PartTooSmall(f"The part {part.number} has {part.size} bytes, not {self._min_part_bytes} or more.")
        opened.touched_at = self._clock()
        return Joined(parts=[staged for _, staged in chosen])

    def completed(self, completion: Completion) -> ObjectInfo | None:
        """Return what an upload has become, for a client that did not hear of it and asks again; none if it has not."""
        known = self._completed.get(completion.upload_id)
        return known[1] if known and completion.is_again(known[0]) else None

    def complete(self, completion: Completion, info: ObjectInfo) -> None:
        """Note what an upload has become, and forget it with its parts; it may have been dropped."""
        self._completed[completion.upload_id] = completion, info
        if len(self._completed) > _MAX_COMPLETED:
            self._completed.popitem(last=False)
        if opened := self._open.pop(completion.upload_id, None):
            opened.close()

    def end(self, path: UfsPath, upload_id: str) -> None:
        """Forget an upload with its parts; raises UploadNotFound."""
        self._find(path, upload_id)
        self._open.pop(upload_id).close()

    @contextmanager
    def using(self, path: UfsPath | str, upload_id: str) -> Iterator[None]:
        """Keep an upload from being idle while the block runs; raises UploadNotFound."""
        opened = self._find(path, upload_id)
        opened.uses += 1
        try:
            yield
        finally:
            opened.uses -= 1
            opened.touched_at = self._clock()

    def expire(self) -> None:
        """Forget the uploads to which nothing came for too long."""
        before = self._clock() - self.idle_seconds
        idle = [key for key, opened in self._open.items() if not opened.uses and opened.touched_at < before]
        for upload_id in idle:
            dropped = self._open.pop(upload_id)
            dropped.close()
            log.info("An idle upload in parts was dropped.", action="upload_idle", path=dropped.upload.path)

    def close(self) -> None:
        """Forget them all."""
        while self._open:
            self._open.popitem()[1].close()

    def _find(self, path: UfsPath | str, upload_id: str) -> _Open:
        opened = self._open.get(upload_id)
        if opened is None or opened.upload.path != str(path):
            raise UploadNotFound(f"path='{path}' has no upload {upload_id[:80]!r}.")
        return opened


def worker_of(upload_id: str) -> str:
    """Return the id of the worker that has an upload."""
    return upload_id.partition(".")[2]


def check_number(number: int) -> None:
    """Raise InvalidRequest unless a part may have this number."""
    if not 1 <= number <= MAX_PARTS:
        raise InvalidRequest(f"partNumber={number} is not a number from 1 to {MAX_PARTS}.")


def _bare(parts: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return parts with their etags as they are kept: clients may send them in quotes."""
    return [(number, etag.strip('"')) for number, etag in parts]


def _chosen(opened: _Open, number: int, etag: str) -> tuple[Part, Staged]:
    found = opened.parts.get(number)
    if found is None or found[0].etag != etag.strip('"'):
        raise InvalidPart(f"The part {number} with the etag {etag[:80]!r} was not uploaded.")
    return found
