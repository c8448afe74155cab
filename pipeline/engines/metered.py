"""An engine of a probe: it answers as the engine inside does, and notes what was asked, what came and how long it took.

What is asked at once is asked in two unequal parts, so that what a pass costs can be told from what a request costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from pipeline.engines.base import Engine, Progress, silent
from vcrd.io.meter import metering, note
from vcrd.requests import Classification, ClassifyRequest, Failure, GenerateRequest, Generation, ScoreRequest, Scores

_FIRST_PART = 4
Request = TypeVar("Request", GenerateRequest, ScoreRequest, ClassifyRequest)


def metered(engine: Engine, role: str | None) -> Engine:
    """Return the engine as it is, or in a probe within one that notes its work."""
    if metering():
        return MeteredEngine(engine, role)
    return engine


def _only_read(request: ScoreRequest | ClassifyRequest, _: object) -> list[Any]:
    return [request.id, len(request.token_ids), 0, 0]


class MeteredEngine:
    """Notes, of each call, its seconds and [id, tokens given, tokens answered, most it may answer] of each request."""

    def __init__(self, engine: Engine, role: str | None) -> None:
        """Wrap an engine that plays a role."""
        self._engine, self._role = engine, role
        self.tokenizer: Any = engine.tokenizer
        self.prefilled = engine.prefilled

    @property
    def tell_in_flight(self) -> Callable[[Collection[str]], None]:
        """Whoever hears of what is in flight."""
        return self._engine.tell_in_flight

    @tell_in_flight.setter
    def tell_in_flight(self, hear: Callable[[Collection[str]], None]) -> None:
        self._engine.tell_in_flight = hear

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = silent) -> list[Generation | Failure]:
        """Continue prompts."""

        def told(request: GenerateRequest, answer: Generation | Failure) -> list[Any]:
            written = 0 if isinstance(answer, Failure) else len(answer.token_ids)
            return [request.id, len(request.prompt_ids), written, request.sampling.max_tokens]

        return self._ask(self._engine.generate, requests, told, progress)

    def score(self, requests: Sequence[ScoreRequest], progress: Progress = silent) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens."""
        return self._ask(self._engine.score, requests, _only_read, progress)

    def classify(
        self, requests: Sequence[ClassifyRequest], progress: Progress = silent
    ) -> list[Classification | Failure]:
        """Give class probabilities at given tokens."""
        return self._ask(self._engine.classify, requests, _only_read, progress)

    def close(self) -> None:
        """Free what the engine holds."""
        self._engine.close()

    def _ask(
        self,
        answer: Callable[[Sequence[Request], Progress], list[Any]],
        requests: Sequence[Request],
        told: Callable[[Request, Any], list[Any]],
        progress: Progress,
    ) -> list[Any]:
        answers: list[Any] = []
        first = len(requests) // _FIRST_PART
        for part, last in ((requests[:first], False), (requests[first:], True)):
            if part:
                started = time.perf_counter()
                found = answer(part, progress)
                seconds = time.perf_counter() - started
                asked = [told(request, item) for request, item in zip(part, found, strict=True)]
                note("call", role=self._role, last=last, seconds=seconds, requests=asked)
                answers += found
        self.prefilled = self._engine.prefilled
        return answers
