"""The coordinator process: the coordinator's tasks, and uvicorn serving the API around them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from preheat import __version__
from preheat.access import Role, Token
from preheat.api._access import AccessMiddleware, login_router
from preheat.api._alluxio import alluxio_router
from preheat.api._alluxio_rest import alluxio_rest_router
from preheat.api._answers import JobViews
from preheat.api._config_file import Config, follow_config, read_config
from preheat.api._events import EventHub
from preheat.api._limits import install_limits
from preheat.api._metrics import metrics_route
from preheat.api._native import native_router
from preheat.api._openapi import install_openapi
from preheat.api._pages import pages_router
from preheat.api._problems import install
from preheat.api._server import GracefulServer
from preheat.api._tokens import tokens_router
from preheat.api._tracing import install_tracing
from preheat.coordinator import Coordinator, HttpCachedListing
from preheat.engine import connect
from preheat.event_loop import run_until_cancelled
from preheat.logs import configure_logging, get_logger
from preheat.settings import AccessSettings, CoordinatorSettings, TlsSettings
from preheat.tls_renewal import follow_certificate, follow_trust
from preheat.token_files import read_token_file
from preheat.tokens import TokenStore
from preheat.ufs import UnderStores

log = get_logger("coordinator")


def create_app(coordinator: Coordinator, settings: CoordinatorSettings, *, tokens: TokenStore | None = None) -> FastAPI:
    """Return the API of a coordinator; with ``tokens``, nobody is answered who does not show one of them."""
    app = FastAPI(
        title="Preheat coordinator",
        version=__version__,
        description="Preload datasets into the cache and know when they are warm.",
    )
    install(app)
    install_limits(app)
    install_openapi(app)
    views = JobViews(coordinator, base_url=settings.url)
    app.state.hub = EventHub(coordinator, views)
    app.include_router(native_router(coordinator, views=views, hub=app.state.hub))
    app.include_router(alluxio_router(coordinator.service))
    app.include_router(alluxio_rest_router(coordinator.service))
    app.include_router(pages_router(coordinator))
    app.add_api_route("/metrics", metrics_route(coordinator), include_in_schema=False)
    if tokens is not None:
        app.include_router(tokens_router(tokens))
        app.include_router(login_router(tokens, secure=settings.url.startswith("https:")))
        app.add_middleware(AccessMiddleware, tokens=tokens)
    install_tracing(app)  # last, and so around the others: their log lines carry the trace too
    return app


def run_coordinator(settings: CoordinatorSettings) -> None:
    """Run a coordinator until SIGINT or SIGTERM.

    Raises:
        InvalidRequest: others reach its address without a token, or its token or configuration file cannot be used.
        EngineUnavailable: NATS does not answer.
    """
    settings.access.check_host(settings.host)
    config = read_config(settings.config_file) if settings.config_file else None
    configure_logging()
    run_until_cancelled(_serve(settings, config))


def _cancel_at_sigterm() -> None:
    """End what starts at SIGTERM, until the server listens for it: nothing else ends a container's first process."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _serve(settings: CoordinatorSettings, declared: Config | None) -> None:
    _cancel_at_sigterm()
    admin_file = settings.access.admin_token_file
    admin = read_token_file(admin_file) if settings.access.auth and admin_file else None
    engine = await connect(settings.engine, name=settings.id)
    tokens = TokenStore(engine) if settings.access.auth else None
    ufs = UnderStores()
    cached = HttpCachedListing(token=settings.access.token, tls=TlsSettings(ca=settings.tls.ca))
    coordinator = Coordinator(settings, engine=engine, ufs=ufs, cached=cached)
    app = create_app(coordinator, settings, tokens=tokens)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=settings.tls.cert,
        ssl_keyfile=settings.tls.key,
    )
    config.load()  # and with it the TLS context
    try:
        if tokens and admin:
            await tokens.adopt_admin(admin)
        if tokens and settings.access.adopt_token:
            await tokens.adopt_own(Token.parse(settings.access.token))
        following = follow_certificate(config.ssl, settings.tls)
        async with (
            _running(coordinator, tokens, following, follow_trust()),
            _declaring(coordinator, settings.config_file, declared),
        ):
            if tokens:
                _warn_of_missing_tokens(tokens, settings.access)
            log.info("The coordinator serves.", action="serving", url=settings.url)
            await GracefulServer(config, end_waits=[app.state.hub.close, coordinator.jobs.release]).serve()
    finally:
        await cached.close()
        await ufs.close()
        await engine.close()


@asynccontextmanager
async def _running(
    coordinator: Coordinator, tokens: TokenStore | None, *others: Coroutine[None, None, None]
) -> AsyncIterator[None]:
    """Run the coordinator's tasks around the block; when they fail, so does the block."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(each) for each in (coordinator.run(), *others)]
        if tokens:
            work.append(tasks.create_task(tokens.follow()))
            await tokens.loaded.wait()
        await coordinator.wait_loaded()
        yield
        for task in work:
            task.cancel()


@asynccontextmanager
async def _declaring(coordinator: Coordinator, file: Path | None, declared: Config | None) -> AsyncIterator[None]:
    """Declare what a file has, if there is one, while the block runs."""
    if file is None or declared is None:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow_config(coordinator, file, declared))
        yield
        following.cancel()


def _warn_of_missing_tokens(tokens: TokenStore, access: AccessSettings) -> None:
    if not any(record.grant.role is Role.ADMIN for record in tokens.list()):
        log.warning(
            "No admin token is known. Write one with `preheat token generate > FILE`, and name the file in "
            "PREHEAT_ADMIN_TOKEN_FILE.",
            action="no_admin_token",
        )
    if not access.token:
        log.warning(
            "Neither PREHEAT_TOKEN nor PREHEAT_TOKEN_FILE is set: workers will not tell this coordinator what they "
            "hold, which the jobs free, replicate and rebalance need.",
            action="no_own_token",
        )
