"""A stand-in for S3 on this machine: moto's server, in a process of its own, on a port of its own.

In the tests' process it would leave flask's proxies in modules that vLLM's kernels look through.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import fsspec
from s3fs import S3FileSystem

from tests.workspace import ROOT
from vcrd.io import stores

HOST = "127.0.0.1"
KEY, SECRET = "AKIAforTestsOnly", "secretForTestsOnlyNoRealKey"  # accepted there, as any would be


class S3:
    """The server, and a bucket for whoever asks."""

    def __init__(self) -> None:
        """Start it."""
        command, pipe = [sys.executable, "-m", "tests.s3_server"], subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self._server.stdout is not None
        self.environment = {
            "AWS_ENDPOINT_URL": self._server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def bucket(self) -> str:
        """Make a bucket and return its URL."""
        url = f"s3://b{uuid4().hex}"
        self.files.mkdir(url)
        return url

    @property
    def files(self) -> fsspec.AbstractFileSystem:
        """A client of its own, which keeps no listings."""
        client = {"endpoint_url": self.environment["AWS_ENDPOINT_URL"]}
        return fsspec.filesystem("s3", key=KEY, secret=SECRET, client_kwargs=client, use_listings_cache=False)

    def contents(self, url: str) -> dict[str, bytes]:
        """Return all objects below a URL."""
        return {name: self.files.cat_file(name) for name in sorted(self.files.find(url))}

    def close(self) -> None:
        """Stop it."""
        self._server.communicate()


def _one_put_at_a_time(app: Callable[..., Any]) -> Callable[..., Any]:
    """Make a conditional put one act, as it is on S3: moto looks first, and puts then."""
    lock = threading.Lock()

    def serve(request: dict[str, Any], start: Callable[..., Any]) -> Any:
        with lock if request["REQUEST_METHOD"] == "PUT" else nullcontext():
            return app(request, start)

    return serve


def forget_clients() -> None:
    """Have the next client read the environment anew."""
    stores._connected.cache_clear()
    S3FileSystem.clear_instance_cache()


def serve() -> None:
    """Say where it listens, and end when whoever started it closes its input, or ends."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    server._server.app = _one_put_at_a_time(server._server.app)
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    serve()
