"""The page of patterns has the code of ``dags/``, all of it, and names every DAG.

``python -m tests.unit.test_pattern_docs`` writes the code into the page.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/airflow-patterns.md"
INCLUDED = re.compile(r"<!-- (dags/\S+) -->\n(?:\n```\w+\n.*?\n```\n)?", flags=re.DOTALL)


def included(match: re.Match[str]) -> str:
    """Return the reference to a file, and behind it the file."""
    path = ROOT / match[1]
    language = {".py": "python", ".yaml": "yaml"}[path.suffix]
    return f"<!-- {match[1]} -->\n\n```{language}\n{path.read_text()}```\n"


def test_the_code_is_that_of_the_dags():
    page = PAGE.read_text()

    assert INCLUDED.sub(included, page) == page, "run python -m tests.unit.test_pattern_docs"


def test_every_dag_is_there():
    page = PAGE.read_text()

    for path in (ROOT / "dags").glob("*.py"):
        assert f"dags/{path.name}" in page
        for dag_id in re.findall(r'dag_id="(\w+)"', path.read_text()):
            assert f"`{dag_id}`" in page.partition("\n## ")[0]


if __name__ == "__main__":
    PAGE.write_text(INCLUDED.sub(included, PAGE.read_text()))
