"""JSON to and from one of several servers, until one of them answers: bounded concurrency, jittered back-off.

A request is sent again after a time-out, a lost connection, an answer that is cut off or no JSON, and the statuses 408,
429 and 5xx. It is answered once whatever was sent: an answer that comes too late is never read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

from vcrd.errors import ConfigError

Read = Callable[[Any], Any]

_AGAIN = frozenset({408, 429})
_KEY_REFUSED = frozenset({401, 403})
_SHOWN = 200


class Refused(Exception):
    """A server answered that this request can never be answered, or gave the same inner error each time."""

    def __init__(self, reason: str, message: str) -> None:
        """Take a short machine-readable reason and a sentence."""
        super().__init__(message)
        self.reason, self.message = reason, message


class _Again(Exception):
    """It may go better next time, in `after` seconds at the earliest; `inside` where the server itself said 5xx."""

    def __init__(self, message: str, after: float = 0.0, inside: bool = False) -> None:
        super().__init__(message)
        self.after, self.inside = after, inside


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        tries: Of one request, over all servers.
        timeout: Seconds for one answer.
        first_wait: Seconds before the second try, doubled before each other one.
        longest_wait: Seconds.
    """

    tries: int = 8
    timeout: float = 600.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, tried: int, at_least: float) -> float:
        """Return seconds to wait after so many tries: half to all of the doubled time, so that none come together."""
        wanted: float = min(self.longest_wait, self.first_wait * 2.0 ** (tried - 1))
        return max(at_least, wanted * random.uniform(0.5, 1.0))


class Servers:
    """Open connections to servers that give the same answers; use it in an `async with`."""

    def __init__(self, urls: Sequence[str], key: str | None, patience: Patience, connections: int) -> None:
        """Take base URLs (`http://host:8000`), and a bearer key that is shown nowhere."""
        self.urls = [url.rstrip("/").removesuffix("/v1") for url in urls]
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._patience, self._connections = patience, connections
        self._turn = 0

    async def __aenter__(self) -> Servers:
        """Open."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._patience.timeout),
            connector=aiohttp.TCPConnector(limit=self._connections),
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self._session.close()

    async def post(self, path: str, body: Any, read: Read) -> Any:
        """Send until `read` can read an answer, each time to the next server.

        Args:
            path: Behind the base URL.
            body: Becomes JSON.
            read: Takes what the JSON of an answer says; what it cannot read is asked for again.

        Raises:
            Refused: The request is at fault.
            ConfigError: No server answers, or the key is refused.
        """
        trouble = _Again("")
        for tried in range(1, self._patience.tries + 1):
            self._turn += 1
            url = self.urls[self._turn % len(self.urls)]
            try:
                return await self._once("POST", f"{url}{path}", body, read)
            except _Again as error:
                trouble = error
            if tried < self._patience.tries:
                await asyncio.sleep(self._patience.wait(tried, trouble.after))
        if trouble.inside and await self._is_healthy(url):
            raise Refused("server_error", str(trouble))
        raise ConfigError(
            f"no answer after {self._patience.tries} tries, the last: {trouble}; start the server, or correct its "
            "address, and run again: what is finished is kept"
        )

    async def ask(self, url: str, path: str, read: Read, body: Any = None) -> Any:
        """Ask one server once for something that it knows.

        Raises:
            ConfigError: It does not answer.
        """
        try:
            return await self._once("GET" if body is None else "POST", f"{url}{path}", body, read)
        except (_Again, Refused) as error:
            raise ConfigError(f"{error}; is it a running `vllm serve`?") from error

    async def _once(self, method: str, url: str, body: Any, read: Read) -> Any:
        try:
            async with self._session.request(method, url, json=body) as answer:
                if answer.status in _KEY_REFUSED:
                    raise ConfigError(f"{url} refuses the key (status {answer.status}); set VCRD_SERVER_KEY")
                if answer.status in _AGAIN or answer.status >= 500:
                    after = answer.headers.get("Retry-After", "")
                    seconds = float(after) if after.isdecimal() else 0.0
                    raise _Again(f"{url}: status {answer.status}", seconds, inside=answer.status >= 500)
                if answer.status >= 400:
                    text = " ".join((await answer.text()).split())[:_SHOWN]
                    raise Refused("refused", f"{url}: status {answer.status}, {text}")
                return read(await answer.json())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _Again(f"{url}: {type(error).__name__} {error}".rstrip()) from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise _Again(f"{url}: an answer that cannot be read ({type(error).__name__} {error})") from error

    async def _is_healthy(self, url: str) -> bool:
        try:
            async with self._session.get(f"{url}/health") as answer:
                return answer.status == 200
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False
