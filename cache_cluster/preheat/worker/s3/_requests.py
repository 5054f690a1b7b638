"""A request as the operations take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from preheat.worker.port import _http as http
from preheat.worker.s3._access import Sender
from preheat.worker.s3._operations import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Request:
    """One request whose sender is known."""

    http: http.Request
    target: Target
    sender: Sender

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        return self.http.headers

    @property
    def fields(self) -> Mapping[str, str]:
        """The parameters."""
        return self.target.fields

    @property
    def bucket(self) -> str:
        """The bucket that it names."""
        return self.target.bucket

    @property
    def key(self) -> str:
        """The key that it names; empty for the bucket."""
        return self.target.key
