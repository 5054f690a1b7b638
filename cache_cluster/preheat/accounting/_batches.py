"""The accounts of a pass, from the window that is planned to the result that closes a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain, islice

from preheat.accounting._passes import entry_numbers, first_of
from preheat.jobs import BatchResult, FailedObject, OpenBatch, Progress, Tally, WorkerShare
from preheat.planning import PlannedBatch

_NOTHING = Tally()


def record_window(
    progress: Progress,
    planned: Sequence[PlannedBatch],
    *,
    cursor: str,
    version: str,
    missing: int = 0,
    missing_after: int = 0,
    left_out: Tally = _NOTHING,
    whole: bool = True,
) -> Progress:
    """Account a window of the listing that is now in batches; the cursor moves past it.

    ``missing`` objects were asked for by name and are not there: they failed already, with no bytes; the first of them
    comes after ``missing_after`` others of the window. With those that are ``left_out`` there was nothing to do: they
    are skipped. A window that is not ``whole`` is as :func:`entry_numbers` says.
    """
    gone = Tally(objects=missing)
    listed = sum((item.tally for item in planned), progress.listed) + gone + left_out
    first_missing = next(islice(entry_numbers(progress, whole=whole), missing_after, None)) if missing else None
    return replace(
        progress,
        listed=listed,
        in_order=listed.objects if whole else progress.in_order,
        first_failed=first_of(progress.first_failed, first_missing),
        skipped=progress.skipped + left_out,
        failed=progress.failed + gone,
        open=progress.open | _opened_all(planned),
        batches=progress.batches + len(planned),
        cursor=cursor,
        version=version,
    )


def record_result(progress: Progress, result: BatchResult) -> tuple[Progress, tuple[FailedObject, ...]]:
    """Account one worker's result, and return what failed for good if that closed the batch."""
    batch = progress.open.get(result.batch_id)
    if batch is None or result.worker not in batch.waiting:
        return progress, ()
    share = _shared(progress.shares.get(result.worker, WorkerShare()), result)
    progress = replace(progress, shares=progress.shares | {result.worker: share})
    if batch.joint:
        return _record_joint_result(progress, batch, result)
    batch = replace(
        batch,
        waiting=tuple(worker for worker in batch.waiting if worker != result.worker),
        skipped=_least(batch.skipped, result.skipped),
        failed=_union(batch.failed, result.failed),
        first_failed=first_of(batch.first_failed, _first_failed(batch, result)),
    )
    if not batch.waiting and len(batch.failed) < batch.tally.objects:
        batch = replace(batch, waiting=batch.then, then=())
    if batch.waiting:
        return replace(progress, open=progress.open | {result.batch_id: batch}), ()
    return _close(progress, result.batch_id, batch), batch.failed


def _record_joint_result(
    progress: Progress, batch: OpenBatch, result: BatchResult
) -> tuple[Progress, tuple[FailedObject, ...]]:
    """Account a result to its batch's joint account; what failed stays with the batch until that is closed."""
    account = _told(progress.open[batch.joint], batch, result)
    batches = progress.open | {batch.joint: account}
    del batches[result.batch_id]
    if result.failed:
        batches[result.batch_id] = replace(batch, waiting=(), failed=result.failed)
    progress = replace(progress, open=batches)
    if account.batches:
        return progress, ()
    held = {key: other.failed for key, other in batches.items() if other.joint == batch.joint}
    failed: dict[str, FailedObject] = {}
    for item in chain.from_iterable(held.values()):
        failed.setdefault(item.path, item)  # by what its first owner to report says
    account = replace(account, failed=tuple(failed.values()))
    return _close(progress, batch.joint, account, *held), account.failed


def second_steps(before: Progress, after: Progress) -> list[str]:
    """Return the open batches that go to their second workers between two states: the first have all reported."""
    return [key for key, batch in after.open.items() if before.open[key].then and not batch.then]


def ended_steps(before: Progress, after: Progress) -> list[str]:
    """Return the batches of two steps that were open before and are not any more."""
    return [key for key, batch in before.open.items() if batch.keepers and key not in after.open]


def replace_batch(progress: Progress, batch_id: str, planned: Sequence[PlannedBatch]) -> Progress:
    """Account that the entries of an open batch went to other workers, in new batches."""
    lost = progress.open[batch_id]
    still_open = _without(progress.open, batch_id)
    opened = _opened_instead(lost, still_open[lost.joint], planned) if lost.joint else _opened_all(planned)
    return replace(progress, open=still_open | opened, batches=progress.batches + len(planned))


def lost_batches(progress: Progress, live: Iterable[str], drained: Iterable[str] = ()) -> list[str]:
    """Return the open batches that wait for, or rely on, a worker that is not live; a drained one may drop copies."""
    alive = set(live)
    dropping = alive.union(drained)

    def is_lost(batch: OpenBatch) -> bool:
        may_do = dropping if batch.keepers and not batch.then else alive
        return not (may_do.issuperset(batch.waiting) and alive.issuperset(batch.keepers))

    return [key for key, batch in progress.open.items() if is_lost(batch)]


def _opened_all(planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    """Return batches as they are opened, each joint account among them."""
    return {item.batch.id: _opened(item) for item in planned} | _joint_accounts(planned)


def _opened_instead(lost: OpenBatch, account: OpenBatch, planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    """Return what is opened in the place of a batch of a joint account.

    All present owners are asked for the entries. One copy takes the place of the lost one, and what the others skip is
    told of those entries already.
    """
    others = len(account.copies)
    opened = {
        item.batch.id: replace(_opened(item), tally=_NOTHING, joint=lost.joint, copy=others if item.copy else lost.copy)
        for item in planned
    }
    return opened | {lost.joint: replace(account, batches=account.batches - 1 + len(planned))}


def _joint_accounts(planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    by_account: dict[str, list[PlannedBatch]] = defaultdict(list)
    for item in planned:
        if item.joint:
            by_account[item.joint].append(item)
    return {
        joint: OpenBatch(
            tally=sum((item.tally for item in items), _NOTHING),
            waiting=(),
            first=min(number for item in items for number in item.batch.numbers),
            batches=len(items),
            copies=(_NOTHING,) * len({item.copy for item in items}),
        )
        for joint, items in by_account.items()
    }


def _opened(planned: PlannedBatch) -> OpenBatch:
    keepers = planned.workers if planned.then else ()
    return OpenBatch(
        tally=_NOTHING if planned.joint else planned.batch.tally,
        waiting=planned.workers,
        then=planned.then,
        keepers=keepers,
        first=min(planned.batch.numbers, default=0),
        joint=planned.joint,
        copy=planned.copy,
    )


def _told(account: OpenBatch, batch: OpenBatch, result: BatchResult) -> OpenBatch:
    """Return a joint account after the result of one of its batches."""
    copies = list(account.copies)
    if batch.copy < len(copies):
        copies[batch.copy] += result.skipped
    return replace(
        account,
        batches=account.batches - 1,
        copies=tuple(copies),
        skipped=reduce(_least, copies[1:], copies[0]),
        first_failed=first_of(account.first_failed, _first_failed(batch, result)),
    )


def _close(progress: Progress, batch_id: str, batch: OpenBatch, *held: str) -> Progress:
    """Count what is in a batch, or in a joint account whose batches are ``held``."""
    failed = Tally(objects=len(batch.failed), bytes=sum(item.size for item in batch.failed))
    skipped = _least(batch.skipped, batch.tally - failed)
    return replace(
        progress,
        open=_without(progress.open, batch_id, *held),
        done=progress.done + batch.tally - failed - skipped,
        skipped=progress.skipped + skipped,
        failed=progress.failed + failed,
        first_failed=first_of(progress.first_failed, batch.first_failed),
    )


def _without(batches: dict[str, OpenBatch], *gone: str) -> dict[str, OpenBatch]:
    left = batches.copy()  # not one by one: there are thousands, and a result for each
    for key in gone:
        del left[key]
    return left


def _first_failed(batch: OpenBatch, result: BatchResult) -> int | None:
    """Return the first entry that failed; of a worker that does not say which, the batch's first one."""
    return result.first_failed if result.first_failed is not None or not result.failed else batch.first


def _shared(share: WorkerShare, result: BatchResult) -> WorkerShare:
    return WorkerShare(
        batches=share.batches + 1,
        done=share.done + result.done,
        skipped=share.skipped + result.skipped,
        failed=share.failed + len(result.failed),
        error=result.failed[-1].message if result.failed else share.error,
    )


def _least(first: Tally | None, second: Tally) -> Tally:
    if first is None:
        return second
    return Tally(objects=min(first.objects, second.objects), bytes=min(first.bytes, second.bytes))


def _union(first: tuple[FailedObject, ...], second: tuple[FailedObject, ...]) -> tuple[FailedObject, ...]:
    return tuple({item.path: item for item in (*second, *first)}.values())
