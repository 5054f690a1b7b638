"""Large ranges of objects from ``http://`` endpoints of S3, each read by a thread.

The thread receives into a small buffer that it uses again, hands it on, and receives the next bytes: they are still in
the processor's cache when they are checksummed and written, and several ranges use several cores. Like the client for
small objects this one deals with plain answers; what is unusual is left to another.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from preheat.errors import OriginThrottled, OriginUnavailable, PreheatError
from preheat.paths import UfsPath
from preheat.ufs._base import Sink, Span
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._answer import UnfitError, UnusableError
from preheat.ufs.s3._channel import Channel
from preheat.ufs.s3._errors import host_and_port, unreachable
from preheat.ufs.s3._gets import GetRequests

_THREADS = 16
"""More ranges than these wait. Each holds the buffer of its connection: 8 MiB together."""


class S3Streams:
    """Reads ranges of objects of one endpoint in threads.

    Args:
        requests: to the endpoint.
        endpoint: for messages.
        settings: deadlines.
    """

    def __init__(self, requests: GetRequests, endpoint: str, settings: UfsSettings) -> None:
        self._requests = requests
        self._endpoint = endpoint
        self._settings = settings
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._idle: deque[Channel] = deque()
        self._closed = False
        self.fit = True
        """Until the endpoint answers in a form that is not understood."""

    async def pour(self, path: UfsPath, span: Span, sink: Sink) -> bool:
        """Hand the bytes to ``sink`` in the thread that reads them; false if another client should bring them all.

        When this is cancelled, the thread ends first.

        Raises:
            VersionChanged: the endpoint has another version; nothing came.
            OriginUnavailable: it refused, fell silent, or broke off again and again.
        """
        if not self.fit:
            return False
        await self._requests.refresh(path)
        reading = _Reading(self, path, span, sink)
        running = asyncio.get_running_loop().run_in_executor(self._threads, reading.run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            reading.stop()
            await asyncio.wait({running})
            raise

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.forget_idle()

    def take(self) -> Channel:
        """Return a connection for one request; raises OSError."""
        try:
            return self._idle.pop()
        except IndexError:
            return Channel(self._requests.host, self._requests.port, self._settings)

    def release(self, channel: Channel) -> None:
        """Keep a connection whose answer was read to its end."""
        if channel.reusable and not self._closed:
            self._idle.append(channel)
        else:
            channel.close()

    def forget_idle(self) -> None:
        """Close the connections that wait: one like them was broken."""
        while self._idle:
            self._idle.pop().close()

    def ask(self, channel: Channel, path: UfsPath, span: Span, at: int) -> None:
        """Ask for what is missing; raises as :meth:`Channel.ask` and :meth:`pour` do."""
        channel.ask(self._requests.get(path, span.info.etag, at, span.end), path, self._endpoint)
        channel.check(path, span.info, at, span.end)

    def broken(self, path: UfsPath, error: OSError) -> OriginUnavailable:
        """Return the error of a connection that cannot be mended."""
        if isinstance(error, TimeoutError):
            return unreachable(path, self._endpoint)
        return OriginUnavailable(f"path='{path}': the connection was reset in the middle of the body.")

    def unusable(self, path: UfsPath, error: UnusableError) -> OriginUnavailable:
        """Return the error of an answer that no other client can take over."""
        host = host_and_port(self._endpoint)
        return OriginUnavailable(f"path='{path}': the S3 endpoint {host} sent no answer that can be used: {error}.")

    @property
    def retries(self) -> int:
        """Further requests after a broken connection."""
        return self._settings.retries


class _Reading:
    """One range on its way; :meth:`run` is for a thread, :meth:`stop` for another."""

    def __init__(self, streams: S3Streams, path: UfsPath, span: Span, sink: Sink) -> None:
        self._streams = streams
        self._path = path
        self._span = span
        self._sink = sink
        self._at = span.start
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._stopped = False

    def run(self) -> bool:
        """Read the range; a connection that breaks costs only what it had not brought."""
        left = self._streams.retries
        while True:
            try:
                self._read_on()
            except OriginThrottled as error:
                if self._at == self._span.start:
                    raise
                raise self._streams.broken(self._path, error) from error  # for who slows down begins anew
            except PreheatError:  # many are OSErrors, too
                raise
            except UnusableError as error:
                self._streams.fit &= not isinstance(error, UnfitError)
                return self._give_up(self._streams.unusable(self._path, error), error)
            except OSError as error:
                self._streams.forget_idle()
                if self._stopped or not left or isinstance(error, TimeoutError):
                    return self._give_up(self._streams.broken(self._path, error), error)
                left -= 1
            else:
                return True

    def stop(self) -> None:
        """Make :meth:`run` fail soon."""
        with self._lock:
            self._stopped = True
            if self._channel is not None:
                self._channel.interrupt()

    def _give_up(self, failure: OriginUnavailable, error: Exception) -> bool:
        if self._at > self._span.start or isinstance(error, TimeoutError):
            raise failure from error
        return False

    def _read_on(self) -> None:
        channel = self._streams.take()
        try:
            self._show(channel)
            self._streams.ask(channel, self._path, self._span, self._at)
            while data := channel.receive():
                self._sink(data)
                self._at += len(data)
        except BaseException:
            channel.close()
            raise
        finally:
            with self._lock:
                self._channel = None
        self._streams.release(channel)

    def _show(self, channel: Channel) -> None:
        """Let :meth:`stop` find the connection."""
        with self._lock:
            self._channel = channel
            if self._stopped:
                raise ConnectionAbortedError
