"""The pages as an ASGI application that costs nothing until somebody opens one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, TypeAlias

_Message: TypeAlias = MutableMapping[str, Any]
_Asgi: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]


class LazyApp:
    """Builds the application at the first request: schedulers, workers and triggerers load plugins too."""

    @cached_property
    def _app(self) -> _Asgi:
        from airflow_preheat.ui._app import create_app  # noqa: PLC0415 - FastAPI and Airflow's models are heavy

        return create_app()

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one request, as ASGI has it."""
        await self._app(scope, receive, send)
