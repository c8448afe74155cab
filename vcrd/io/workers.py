"""Work that may never end, in a process of its own: bounded by the parent's clock, never by signals within it.

A worker is `python -m vcrd.io.workers MODULE:FUNCTION`: a line of JSON arguments in, a line of JSON result out. One
that is late is killed, and the next call starts another.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

_START_SECONDS = 120.0
_MEMORY_BYTES = 4 << 30


class Late(Exception):
    """A call took longer than its bound, or ended its worker."""


class BoundedWorker:
    """Calls one function in another process, one call at a time; each costs at most `seconds`.

    Args:
        target: `module:function`; arguments and result are JSON values.
        seconds: Wall time that a call may take. The start of a worker, with its imports, is not counted.
    """

    def __init__(self, target: str, seconds: float) -> None:
        """Start nothing yet."""
        self._target, self._seconds = target, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.close)

    def call(self, *arguments: Any) -> Any:
        """Return the function's result.

        Raises:
            Late: It did not come in time, or the function ended its process.
            RuntimeError: The worker cannot be started.
        """
        with self._lock:
            process = self._started()
            assert process.stdin is not None  # noqa: S101 - for the type checker
            try:
                process.stdin.write(json.dumps(arguments).encode() + b"\n")
                process.stdin.flush()
                return json.loads(_read_line(process, self._seconds))
            except (Late, OSError, ValueError) as error:
                self.close()
                raise Late(f"no result within {self._seconds:g} s") from error

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        # A fork must not talk through its parent's pipes.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            command = [sys.executable, "-m", __name__, self._target, str(self._seconds)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment())
            try:
                _read_line(self._process, _START_SECONDS)
            except Late:
                self.close()
                raise RuntimeError(f"the worker of {self._target} did not start; its own error is above") from None
        return self._process


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert process.stdout is not None  # noqa: S101 - for the type checker
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise Late
    line = process.stdout.readline()
    if not line:
        raise Late
    return line


def serve(function: Callable[..., Any], seconds: float) -> None:
    """Answer calls until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what the function prints is no answer
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        # Should the parent be gone, nobody else ends a call that hangs: the default action of the alarm does.
        signal.alarm(round(seconds) + 5)
        result = function(*json.loads(line))
        signal.alarm(0)
        answers.write(json.dumps(result) + "\n")
        answers.flush()


def _main(target: str, seconds: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    module, _, name = target.partition(":")
    serve(getattr(importlib.import_module(module), name), float(seconds))


if __name__ == "__main__":
    _main(*sys.argv[1:])
