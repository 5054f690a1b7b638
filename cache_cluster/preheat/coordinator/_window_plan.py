"""One page of a job's listing as batches, and as a part of the job's accounts. Pure."""

from __future__ import annotations

from preheat import accounting
from preheat.coordinator._catalog import Page
from preheat.jobs import Progress
from preheat.placement import PlacementMap
from preheat.planning import PlannedBatch, Planner, left_out
from preheat.versions import DatasetVersion


def plan_window(
    progress: Progress, page: Page, *, planner: Planner, placement: PlacementMap
) -> tuple[list[PlannedBatch], Progress]:
    """Return the batches of a page, and the accounts once they are published."""
    version = DatasetVersion(progress.version)
    version.update(page.objects)
    planned = planner.plan(
        page.objects,
        root=page.root,
        placement=placement,
        first=progress.batches,
        numbers=accounting.entry_numbers(progress, whole=page.whole),
    )
    return planned, accounting.record_window(
        progress,
        planned,
        cursor=page.cursor,
        version=version.state,
        missing=len(page.missing),
        missing_after=page.missing_after,
        left_out=left_out(page.objects, planned),
        whole=page.whole,
    )
