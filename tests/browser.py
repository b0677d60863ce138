"""A headless Chromium for tests, driven over pipes by the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-pipe",
)
_TIMEOUT = 60.0  # seconds for one answer


@dataclass
class Tab:
    """One page of the browser."""

    read: int
    write: int
    session: str = ""
    number: int = 0
    waiting: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that arrive before it are kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self.number:
            self.events.append(found)
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    def open(self, path: Path) -> None:
        """Load a page from disk and wait until it has loaded; clears the events of the page before."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release one key."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        code = {"windowsVirtualKeyCode": {"Enter": 13, "Tab": 9}[key]} if key in ("Enter", "Tab") else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Set the size of the window in CSS pixels, and the color scheme that the system prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def console_messages(self) -> list[str]:
        """Everything in the console: errors, violations of the page's policy, exceptions."""
        self.evaluate("0")
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def requested_schemes(self) -> set[str]:
        """The URL schemes of all requests of the page."""
        urls = [event["params"]["request"]["url"] for event in self.events if event.get("method") == _REQUEST]
        return {url.partition(":")[0] for url in urls}

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _TIMEOUT
        while b"\0" not in self.waiting:
            assert select.select([self.read], [], [], max(0.0, end - time.monotonic()))[0], "the browser needs a value"
            more = os.read(self.read, 1 << 20)
            assert more, "the browser has ended"
            self.waiting += more
        line, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(line)


_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_REQUEST = "Network.requestWillBeSent"


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A new browser with one empty tab; `folder` holds its user data."""
    inward, outward = os.pipe(), os.pipe()  # its file descriptors 3 and 4
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (inward[0], outward[1])]
    command = [sys.executable, "-c", _START, *map(str, ends), CHROMIUM, *_QUIET, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for fd in (*ends, inward[0], outward[1]):
        os.close(fd)
    tab = Tab(outward[0], inward[1])
    try:
        target = tab.call("Target.createTarget", url="about:blank")["targetId"]
        tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        yield tab
    finally:
        for fd in (outward[0], inward[1]):
            os.close(fd)
        process.terminate()
        process.wait(30)
