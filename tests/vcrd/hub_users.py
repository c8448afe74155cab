"""A user of the stand-in Hub: commands run against it, or are killed at the n-th request that reaches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hub_server import TOKEN, Hub
from tests.workspace import ROOT

Hook = Callable[[str, str], None]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Done:
    rc: int
    out: str


class User:
    """Runs `vcrd` against a Hub, with a home of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self._hub = hub
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "tests.vcrd.hub_driver"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._driver.stdin is not None
        self._driver.stdin.close()
        self._driver.wait(timeout=30)

    def vcrd(
        self,
        *command: object,
        cwd: Path = ROOT,
        kill_at: int | None = None,
        kill_at_renames: int | None = None,
        moment: str = "before",
        also: Hook | None = None,
    ) -> Done:
        """Run a command; with `kill_at` its process gets SIGKILL when that many requests have reached the Hub.

        With `kill_at_renames` it gets SIGKILL when it has renamed that many paths, or for 0 is about to rename one.
        """
        seen: list[str] = []
        pid: list[int] = []
        started = threading.Event()

        def kill(when: str, request: str) -> None:
            if also is not None:
                also(when, request)
            if when == moment:
                seen.append(request)
                if len(seen) == kill_at:
                    started.wait(60)  # the first request may be here before the driver has said whose it is
                    os.kill(pid[0], signal.SIGKILL)

        self._hub.hook = kill
        try:
            self._write({"command": [str(part) for part in command], "cwd": str(cwd), "renames": kill_at_renames})
            pid.append(self._read()["pid"])
            started.set()
            found = self._read()
        finally:
            self._hub.wait_idle()
            self._hub.hook = lambda when, request: None
        return Done(found["rc"], found["out"])

    def check(self, *command: object, **how: object) -> str:
        done = self.vcrd(*command, **how)  # type: ignore[arg-type]
        assert done.rc == 0, done.out
        return done.out

    def _write(self, asked: dict) -> None:
        assert self._driver.stdin is not None
        self._driver.stdin.write(json.dumps(asked) + "\n")
        self._driver.stdin.flush()

    def _read(self) -> dict:
        assert self._driver.stdout is not None
        return json.loads(self._driver.stdout.readline())
