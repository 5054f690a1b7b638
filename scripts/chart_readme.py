"""Writes helm/preheat/README.md from the comments of values.yaml: `python scripts/chart_readme.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "helm" / "preheat"
_COMMENT = re.compile(r"(?P<indent> *)# (?P<first>-- )?(?P<text>.*)")
_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z0-9]+):")
_HEAD = """\
# Preheat on Kubernetes

{description}.
From zero to a nightly warm-up: [Deploy on Kubernetes](../../docs/how-to/deploy-on-kubernetes.md).

Chart {version}, Preheat {appVersion}, Kubernetes {kubeVersion}. Helm 3 and Helm 4 render it alike.

```bash
helm install preheat helm/preheat --namespace preheat --create-namespace --values my-values.yaml
helm test preheat --namespace preheat
```

Values for common cases are in [ci/](ci): a first look, high availability, no persistence, TLS, an engine or Secrets
from elsewhere. Values that do not exist, or do not fit together, end the installation with a sentence that names them.

<!-- Written by scripts/chart_readme.py from the comments of values.yaml. -->

| value | default | meaning |
|---|---|---|
"""


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Yield each value that has a `# --` comment: its dotted path, and the comment."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := _COMMENT.fullmatch(line):
            if found["first"]:
                comment = [found["text"]]
            elif comment:
                comment.append(found["text"])
        elif found := _KEY.match(line):
            indent = len(found["indent"])
            path = [*((depth, key) for depth, key in path if depth < indent), (indent, found["key"])]
            if comment:
                yield ".".join(key for _, key in path), " ".join(comment)
            comment = []


def default_of(values: Any, path: str) -> str:
    """Return a value's default as it is written in the table."""
    for key in path.split("."):
        values = values[key]
    return json.dumps(values)


def readme() -> str:
    """Return the whole page."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = [
        f"| `{path}` | `{default_of(values, path)}` | {meaning.replace('|', chr(92) + '|')} |\n"
        for path, meaning in documented(text)
    ]
    return _HEAD.format_map(chart) + "".join(rows)


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
    print(f"written: {CHART / 'README.md'}")
