"""Headless Chromium, driven over its DevTools protocol: what tests and benchmarks of pages need.

Needs a `chromium` on the path and the package `websocket-client`.
"""

import json
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


def chromium() -> str | None:
    """The browser's path, where there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


AXE = "axe-core@4.10.3"
"""Deque's accessibility rules, as npm has them."""

_KEPT = Path(__file__).parents[1] / "build" / "axe-core"


def axe_core() -> str | None:
    """The rules' script: from build/axe-core, else asked of npm's registry once; None without."""
    script = _KEPT / "axe.min.js"
    npm = shutil.which("npm")
    if not script.exists() and npm is not None:
        _KEPT.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", AXE, "--silent", "--fetch-retries=0", "--fetch-timeout=10000"]
        try:
            done = subprocess.run(command, cwd=_KEPT, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return None
        packed = next(iter(_KEPT.glob("axe-core-*.tgz")), None)
        if done.returncode or packed is None:
            return None
        with tarfile.open(packed) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            script.write_bytes(member.read())
        packed.unlink()
    return script.read_text(encoding="utf-8") if script.exists() else None


class Browser:
    """One page, its events, and keys for it."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        import websocket

        program = chromium()
        assert program is not None, "no chromium on this machine"
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = folder / "DevToolsActivePort"
        port = self._until(
            lambda: (
                port_file.read_text().split()[0]
                if port_file.exists() and port_file.read_text().count("\n")
                else None
            )
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            target = next(each for each in json.load(reply) if each["type"] == "page")
        self._socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=60)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Another screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; events that arrive meanwhile are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file and wait for its plots."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self._until(lambda: self.run("document.documentElement?.dataset.ready") == "curves")

    def press(self, key: str, times: int = 1) -> None:
        """Press a key on whatever has the focus."""
        codes = {
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Enter": 13,
            "Tab": 9,
            "Home": 36,
            "End": 35,
        }
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=codes[key],
                    # What a button answers to is the character, not the key.
                    **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
                )
        self.settle()

    def settle(self) -> None:
        """Past the frame in which what was asked for is shown."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @staticmethod
    def _until(found: Callable[[], Any], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError("waited in vain")

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
