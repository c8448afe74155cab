"""A real `vllm serve` on loopback, and a proxy before it that spoils some answers, for the benchmark and the tests."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
FAULTS = ("time-out", "status 500", "reset", "truncated")
_START_SECONDS = 300


def free_port() -> int:
    """Return a port of loopback that nobody uses."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def vllm_serve(model: str, log: Path, *options: str) -> Iterator[str]:
    """Serve a model on CPU for as long as the block runs; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--host", HOST]
    command += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--block-size", "32"]
    command += ["--max-logprobs", "64", "--seed", "0", *options]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        url = f"http://{HOST}:{port}"
        _wait_until_healthy(server, url, log)
        yield url
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - http to this machine
            return
        time.sleep(0.5)
    raise RuntimeError(f"vllm serve did not start:\n{log.read_text()[-3000:]}")


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to a server, and spoils a share of the answers to completions, by a seed.

    Attributes:
        faults: How often each fault was injected.
        passed: How many completions were answered whole.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, share: float, seed: int, hang: float) -> None:
        """Stand before `target`; a time-out is an answer that takes `hang` seconds."""
        super().__init__((HOST, 0), _Handler)
        self.target, self.share, self.hang = target.removeprefix("http://"), share, hang
        self.faults: Counter[str] = Counter()
        self.passed = 0
        self._random, self._lock = random.Random(seed), threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.server_address[1]}"

    def draw(self) -> str | None:
        """Choose a fault, or none."""
        with self._lock:
            if self._random.random() >= self.share:
                self.passed += 1
                return None
            fault = self._random.choice(FAULTS)
            self.faults[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a fault has broken."""

    def __enter__(self) -> FaultyProxy:
        """Listen."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def do_GET(self) -> None:
        """Hand on."""
        self._send(*self._ask(None))

    def do_POST(self) -> None:
        """Hand on, or fail."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.server.draw() if self.path == "/v1/completions" else None
        if fault == "status 500":
            self._send(500, b'{"error": "injected"}')
        elif fault == "time-out":
            time.sleep(self.server.hang)
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self._send(*self._ask(body), truncated=fault == "truncated")

    def _ask(self, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=120)
        connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def _send(self, status: int, text: bytes, truncated: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if truncated else text)
        self.close_connection = self.close_connection or truncated

    def log_message(self, format: str, *arguments: Any) -> None:
        """Be silent."""
