"""Reading a job's pages as owners do that die and are replaced."""

from __future__ import annotations

from preheat.coordinator._source import JobSource, Page
from preheat.jobs import JobSpec, Progress


def names(page: Page) -> list[str]:
    return [page.root + item.key for item in page.objects] + [item.path for item in page.missing]


async def every_resume_completes(source: JobSource, spec: JobSpec) -> list[str]:
    """Read all pages, then again from after each page: the same pages follow, whoever reads them.

    So do those after a resume that itself followed a resume: the cursors are compared too.
    """
    pages = [page async for page in source.pages(spec, Progress())]
    index = 0
    for number, page in enumerate(pages):
        index += page is None
        progress = Progress(path_index=index, cursor=page.cursor if page else "")
        rest = [rest async for rest in source.pages(spec, progress)]
        assert rest == pages[number + 1 :]
    return [name for page in pages if page for name in names(page)]
