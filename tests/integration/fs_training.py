"""The training loops of docs/how-to/train-from-the-cache.md, in a process of .venv-ecosystems.

It is called with ``items ROOT``, ``shards ROOT`` or both, and has the coordinator in PREHEAT_COORDINATOR_URL. A line of
JSON tells of the first batch, and the loop goes on when a line has come in; one tells of each epoch that ended; the
last one of what was read: the samples, and a checksum over them that does not depend on their order.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

PAGE = Path(__file__).parents[2] / "docs/how-to/train-from-the-cache.md"
EPOCHS = 4


def decode(body: bytes) -> tuple[torch.Tensor, int, int]:
    """Return an image, its label, and the checksum of the bytes that it was made of."""
    with np.load(io.BytesIO(body)) as arrays:
        image, label = torch.from_numpy(arrays["image"]).float() / 16, int(arrays["label"])
    return image.flatten(), label, int.from_bytes(hashlib.sha256(body).digest()[:6], "big")


def loader_of_the_page(kind: str, root: str) -> DataLoader[Any]:
    items, shards = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(items.replace("datasets/images", root), names)
    if kind == "shards":
        exec(shards.replace("datasets/shards", root), names)
    names["decode"] = decode
    loader: DataLoader[Any] = names["loader"]
    return loader


def train(loader: DataLoader[Any]) -> Iterator[dict[str, float]]:
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    samples = checksum = 0
    for epoch in range(EPOCHS):
        for images, labels, checksums in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not samples:
                yield {"began": 1}
                sys.stdin.readline()
            samples += len(labels)
            checksum += int(checksums.sum())
        yield {"epoch": epoch, "loss": loss.item()}
    yield {"samples": samples, "checksum": checksum}


def main(*arguments: str) -> None:
    torch.set_num_threads(1)
    for kind, root in zip(arguments[::2], arguments[1::2], strict=True):
        for line in train(loader_of_the_page(kind, root)):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
