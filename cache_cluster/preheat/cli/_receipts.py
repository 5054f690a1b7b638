"""``preheat receipt``: what verified jobs have proven, to keep and to check."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec
import typer

from preheat.cli._errors import JsonFlag
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._outcome import count
from preheat.cli._output import print_json, print_pairs, shown_time
from preheat.cli._processes import server_extra
from preheat.client import Client
from preheat.errors import InvalidRequest

if TYPE_CHECKING:
    from preheat.receipts import Receipt

_MAX_BYTES = 1 << 20
"""Of a file that may be a receipt, or keys."""


class ReceiptClient(Client):
    """Asks for receipts and their keys."""

    def receipt(self, job_id: str) -> str:
        """Return a job's receipt, a compact JWS.

        Raises:
            NotFound: it has none; the message says why.
        """
        return self._request("GET", f"/v1/jobs/{quote(job_id, safe='')}/receipt").text

    def receipt_keys(self) -> bytes:
        """Return the public keys by which receipts are checked, as a JWKS."""
        return self._request("GET", "/v1/receipts/keys").content


def register(app: typer.Typer) -> None:
    """Add the commands."""
    receipts = typer.Typer(no_args_is_help=True, help="Keep and check what verified jobs have proven.")
    receipts.command("show")(show)
    receipts.command("keys")(keys)
    receipts.command("verify")(verify)
    app.add_typer(receipts, name="receipt")


def show(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Print the receipt of a job, to be kept: a signed line of text. `preheat receipt verify` says what it proves."""
    with ReceiptClient.from_environment(coordinator) as client:
        receipt = client.receipt(job_id)
    if as_json:
        print_json({"job": job_id, "receipt": receipt})
    else:
        typer.echo(receipt)


def keys(*, coordinator: Coordinator = DEFAULT_COORDINATOR) -> None:
    """Print the cluster's public keys (JWKS), to check receipts when and where it cannot be asked."""
    with ReceiptClient.from_environment(coordinator) as client:
        typer.echo(client.receipt_keys())


def verify(
    receipt: Annotated[str, typer.Argument(metavar="FILE", help="A receipt; - reads it from standard input.")],
    *,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="The cluster's keys, as `preheat receipt keys` prints them.  [default: ask the coordinator]",
            show_default=False,
        ),
    ] = None,
    min_hot_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Exit with 1 if less of the files was proven hot.")
    ] = 1.0,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Check that the cluster signed a receipt, and say what it proves. Exit 1 if it is forged or another cluster's."""
    with server_extra():
        from preheat import receipts  # noqa: PLC0415 - only with preheat[server]
    text = _read(receipt).decode(errors="replace").strip()
    checked = receipts.verify(text, receipts.read_keys(_keys(keys_file, coordinator)), now=time.time())
    if as_json:
        print_json(msgspec.to_builtins(checked) | {"hotFraction": checked.hot_fraction})
    else:
        print_pairs(_pairs(checked))
    if checked.hot_fraction < min_hot_fraction:
        raise typer.Exit(1)


def _keys(file: Path | None, coordinator: str) -> bytes:
    if file is not None:
        return _read(str(file))
    with ReceiptClient.from_environment(coordinator) as client:
        return client.receipt_keys()


def _read(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            return stream.read(_MAX_BYTES)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.", remedy="Name another file.") from error


def _pairs(receipt: Receipt) -> list[tuple[str, str]]:
    files = f"{receipt.verified.files:,} of {receipt.listed.files:,}"
    owners = "its owner" if receipt.replicas == 1 else f"each of its {receipt.replicas} owners"
    pairs = [
        ("receipt", "valid: the cluster signed it"),
        ("issuer", receipt.iss),
        ("job", receipt.sub),
        ("dataset", _what(receipt)),
        ("files", receipt.file_filter_regex and f"only those that {receipt.file_filter_regex} matches"),
        ("version", receipt.dataset_version or "none: a part of a dataset"),
        ("proven hot", f"{files} files, {count(receipt.verified).partition(', ')[2]}; read back from {owners}"),
        ("not hot", count(receipt.failed) if receipt.failed.files else None),
        ("when", f"{_shown(receipt.verified_from)} to {_shown(receipt.iat)}"),
        ("placement", f"epoch {receipt.epoch}"),
    ]
    return [(name, value) for name, value in pairs if value]


def _what(receipt: Receipt) -> str:
    paths = " ".join(receipt.paths or ()) or f"many paths, {receipt.paths_digest}"
    what = f"what {receipt.index} names" if receipt.index else paths
    return f"what failed in the job {receipt.retry_of}: {what}" if receipt.retry_of else what


def _shown(seconds: int) -> str:
    return shown_time(datetime.fromtimestamp(seconds, tz=UTC))
