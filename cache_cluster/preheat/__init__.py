"""Preheat keeps training data warm: a cache cluster between S3 and the GPUs that wait for it."""

__version__ = "0.1.0"

__all__ = ["__version__"]
