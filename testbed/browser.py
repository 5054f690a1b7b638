"""Headless Chromium over its DevTools protocol: opens a page, waits, takes a picture."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.request import ProxyHandler, build_opener

import websocket

T = TypeVar("T")
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_START_SECONDS = 30.0
_CALL_SECONDS = 30.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1
_STILL_POLLS = 6
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class BrowserError(Exception):
    """Chromium is missing, did not start, or the page never showed what was asked for."""


def find_chromium() -> str:
    """Return the path of Chromium or Chrome.

    Raises:
        BrowserError: there is none in PATH.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    raise BrowserError(f"no browser in PATH (tried {', '.join(_NAMES)}); install Debian's package chromium.")


class Browser:
    """One headless browser with one page and a profile of its own; a context manager that ends it."""

    def __init__(self, *, profile: Path, width: int = 1440, height: int = 900) -> None:
        self._profile = profile
        self._viewport = {"width": width, "height": height}
        self._calls = 0

    def __enter__(self) -> Self:
        self._profile.mkdir(parents=True)
        command = [find_chromium(), *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        with (self._profile / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            url = _poll(self._page_url, seconds=_START_SECONDS, what="Chromium's DevTools page")
            # Chromium refuses an Origin header that it was not told to allow.
            self._socket = websocket.create_connection(url, timeout=_CALL_SECONDS, suppress_origin=True)
            # The window is smaller than --window-size says, by its frame.
            self.call("Emulation.setDeviceMetricsOverride", **self._viewport, deviceScaleFactor=1, mobile=False)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._stop()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call one DevTools method and return its result.

        Raises:
            BrowserError: the browser refused the call.
        """
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:  # the socket's timeout bounds each wait, and a call has one answer
            message = json.loads(self._socket.recv())
            if message.get("id") == self._calls:
                break
        if "error" in message:
            raise BrowserError(f"{method}: {message['error'].get('message')}")
        result: dict[str, Any] = message["result"]
        return result

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression in the page.

        Raises:
            BrowserError: the expression threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails'].get('text')}")
        return answer["result"].get("value")

    def set_cookie(self, *, name: str, value: str, url: str) -> None:
        """Set a cookie for the origin of ``url``."""
        self.call("Network.setCookie", name=name, value=value, url=url)

    def set_local_storage(self, items: dict[str, str]) -> None:
        """Put items into the local storage of each page opened from now on, before its own scripts run."""
        script = f"for (const [k, v] of Object.entries({json.dumps(items)})) localStorage.setItem(k, v);"
        self.call("Page.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def goto(self, url: str) -> None:
        """Start to load a page.

        Raises:
            BrowserError: nothing answers at the URL.
        """
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")

    def wait_for(self, expression: str, *, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression is true in the page.

        Raises:
            BrowserError: it was not, within ``seconds``.
        """
        _poll(lambda: self.evaluate(f"Boolean({expression})"), seconds=seconds, what=expression)

    def wait_until_still(self, expression: str, *, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression keeps its value for half a second, when an animation has ended, say.

        Raises:
            BrowserError: it kept changing for ``seconds``.
        """
        recent: deque[Any] = deque(maxlen=_STILL_POLLS)

        def still() -> bool:
            recent.append(self.evaluate(expression))
            return len(recent) == _STILL_POLLS and all(value == recent[0] for value in recent)

        _poll(still, seconds=seconds, what=f"no more change of {expression}")

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        answer = self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _page_url(self) -> str | None:
        if self._process.poll() is not None:
            log = (self._profile / "chromium.log").read_text(errors="replace")
            raise BrowserError(f"Chromium ended with exit status {self._process.returncode}: {log[-500:]}")
        port_file = self._profile / "DevToolsActivePort"
        if not port_file.exists() or not (lines := port_file.read_text().split()):
            return None
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{lines[0]}/json/list", timeout=_CALL_SECONDS) as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        return str(pages[0]["webSocketDebuggerUrl"]) if pages else None

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)


def _poll(check: Callable[[], T | None], *, seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(_POLL_SECONDS)
    raise BrowserError(f"waited {seconds:.0f} s in vain for: {what}")
