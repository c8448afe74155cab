"""Debian's Chromium, headless, driven through its DevTools protocol on two pipes: no driver, no port, no package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vcrd.errors import ConfigError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
_CHUNK = 1 << 20
# Chromium reads commands from descriptor 3 and answers on 4.
_LAUNCH = 'exec "$0" "$@" 3<&{} 4>&{}'


def find_chromium() -> str:
    """Return the browser's path.

    Raises:
        ConfigError: There is none.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    raise ConfigError("no chromium on the PATH; run scripts/system_packages.sh")


class Browser:
    """One page of one browser; use it as a context manager.

    Attributes:
        requests: Addresses of everything that the page asked for, in order.
        problems: What the console was told of errors and warnings, uncaught exceptions and policy violations.
        dialogs: What the page put up as dialogs.
    """

    def __init__(self, *, width: int = 1280, height: int = 800, timeout_s: float = 60) -> None:
        """Start it; `timeout_s` bounds each command and each wait."""
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.dialogs: list[str] = []
        self._timeout_s = timeout_s
        self._profile = tempfile.TemporaryDirectory(prefix="vcrd-chromium-", ignore_cleanup_errors=True)
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        switches = [
            *_SWITCHES,
            f"--user-data-dir={self._profile.name}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        launch = ["bash", "-c", _LAUNCH.format(commands, answers), find_chromium(), *switches, "about:blank"]
        self._process = subprocess.Popen(
            launch,
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = bytearray()
        self._last = 0
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the browser."""
        self.close()

    def close(self) -> None:
        """End the browser and forget its profile."""
        self._session = None
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Set the size of the page's window, in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, scheme: str) -> None:
        """Set the colour scheme that the user prefers: "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path: Path, fragment: str = "", ready: str = "document.readyState === 'complete'") -> None:
        """Open a file and wait until the JavaScript expression `ready` is true of it."""
        self.send("Page.navigate", url="about:blank")
        self.requests.clear()
        self.send("Page.navigate", url=f"{path.resolve().as_uri()}{fragment}")
        self.wait(f"location.protocol === 'file:' && {ready}")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            TimeoutError: It never was.
        """
        end = time.monotonic() + self._timeout_s
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {expression}; the console: {self.problems[:3]}")
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited where it is a promise."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press and release keys, by their DOM names."""
        for key in keys:
            text = {"text": {"Enter": "\r"}.get(key, key)} if len(key) == 1 or key == "Enter" else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text, **_code(key))
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **_code(key))

    def screenshot(self) -> bytes:
        """Return the window's picture as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            RuntimeError: The browser refuses it, or ended.
            TimeoutError: It does not answer.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._write, data[:_CHUNK]) :]
        for answer in self._messages():
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))
        raise RuntimeError(f"{method}: the browser ended; does {find_chromium()} start by hand?")

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + self._timeout_s
        while True:
            while (at := self._buffer.find(b"\0")) >= 0:
                message = json.loads(self._buffer[:at])
                del self._buffer[: at + 1]
                yield message
            if not select.select([self._read], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError("the browser does not answer")
            if not (data := os.read(self._read, _CHUNK)):
                return
            self._buffer += data

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])


_KEY_CODES = {
    "Enter": 13,
    "Escape": 27,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowUp": 38,
    "ArrowDown": 40,
    "Tab": 9,
}


def _code(key: str) -> dict[str, int]:
    return {"windowsVirtualKeyCode": _KEY_CODES[key]} if key in _KEY_CODES else {}
