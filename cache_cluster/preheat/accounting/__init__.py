"""Accounting: what a job's record becomes when something happens. Pure: record in, record out.

Batches are delivered at least once and their results too; a result is counted once, because a batch that is not open,
or that no longer waits for the worker, is ignored. An object with several owners counts once: as failed if it failed on
any, as skipped if all of them skipped it, as done otherwise. So listed = done + skipped + failed + remaining (I7).
Where its copies are in several batches, these have a joint account that is closed when the last of them has its result.
"""

from __future__ import annotations

from preheat.accounting._batches import (
    ended_steps,
    lost_batches,
    record_result,
    record_window,
    replace_batch,
    second_steps,
)
from preheat.accounting._outcomes import (
    dataset_version,
    decides_order,
    hot_fraction,
    hot_in_order,
    hot_in_order_at_most,
    too_many_failed,
    verdict,
)
from preheat.accounting._passes import (
    begin_verification,
    entry_numbers,
    progress_of,
    record_failures,
    record_listed_path,
    with_progress,
    without_open_failures,
)

__all__ = [
    "begin_verification",
    "dataset_version",
    "decides_order",
    "ended_steps",
    "entry_numbers",
    "hot_fraction",
    "hot_in_order",
    "hot_in_order_at_most",
    "lost_batches",
    "progress_of",
    "record_failures",
    "record_listed_path",
    "record_result",
    "record_window",
    "replace_batch",
    "second_steps",
    "too_many_failed",
    "verdict",
    "with_progress",
    "without_open_failures",
]
