"""A token in a file, where the operator or a secret's mount puts it."""

from __future__ import annotations

import os
from pathlib import Path

from preheat.access import Token
from preheat.errors import InvalidRequest, Unauthenticated


def read_token_file(path: Path) -> Token:
    """Read a file that holds one token.

    Raises:
        InvalidRequest: it cannot be read, or holds something else.
    """
    try:
        return Token.parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The token file {path} cannot be read: {error}.") from error
    except Unauthenticated as error:
        raise InvalidRequest(
            f"The file {path} does not hold a token.", remedy="Write one with: preheat token generate > FILE"
        ) from error


def own_token() -> str:
    """Return the token that this process shows: ``PREHEAT_TOKEN``, or what is in ``PREHEAT_TOKEN_FILE``; empty if none.

    Raises:
        InvalidRequest: the file cannot be read, or holds something else.
    """
    if token := os.environ.get("PREHEAT_TOKEN"):
        return token
    file = os.environ.get("PREHEAT_TOKEN_FILE")
    return read_token_file(Path(file)).text if file else ""
