"""The demo's data: scikit-learn's handwritten digits, one image an object, and three larger files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sklearn.datasets import load_digits

BUCKET = "datasets"
SHARD_COUNT = 3
SHARD_BYTES = 24 * 2**20
_TEST_EVERY = 5
_UPLOADS = 8


def digit_images() -> Iterator[tuple[str, bytes]]:
    """Yield key and content of the 1,797 images: ``digits/PART/LABEL/NAME.pgm``, PART being train or test."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "train" if number % _TEST_EVERY else "test"
        height, width = image.shape
        header = f"P5\n{width} {height}\n16\n".encode()
        yield f"digits/{part}/{label}/{number:04}.pgm", header + image.astype("uint8").tobytes()


def shards(count: int = SHARD_COUNT, size: int = SHARD_BYTES) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of large files: random bytes, the same in every run."""
    for number in range(count):
        yield f"shards/{number:03}.bin", random.Random(number).randbytes(size)  # noqa: S311 - not a secret


def everything() -> Iterator[tuple[str, bytes]]:
    """Yield key and content of all objects."""
    yield from digit_images()
    yield from shards()


def upload(client: Any, objects: Iterable[tuple[str, bytes]]) -> list[str]:
    """Make the bucket with a boto3 client, put the objects into it, and return their keys."""

    def put(item: tuple[str, bytes]) -> str:
        key, content = item
        client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return key

    client.create_bucket(Bucket=BUCKET)
    with ThreadPoolExecutor(_UPLOADS) as pool:
        return list(pool.map(put, objects))
