"""A model behind `vllm serve`, on this machine or another: token ids go out, token ids and log-probabilities come back.

Where it is stands in the environment, for it decides nothing of the answers and changes from job to job:
`VCRD_TEACHER_URLS` (of the role's name; several with commas between) and `VCRD_SERVER_KEY` where it wants a key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from pipeline.engines.base import (
    EngineParams,
    Limits,
    ModelRef,
    PrefillCount,
    Progress,
    Request,
    Task,
    answerable,
    eos_ids,
    silent,
)
from pipeline.engines.http import Patience, Refused, Servers
from pipeline.engines.server_answers import read_generation, read_prefill, read_scores
from vcrd.errors import ConfigError, first_line
from vcrd.io.checkpoints import NO_CODE
from vcrd.requests import Classification, ClassifyRequest, Failure, GenerateRequest, Generation, ScoreRequest, Scores

KEY = "VCRD_SERVER_KEY"
_NO_CLASSES = "a served model cannot classify; run process reward models with vllm or transformers"
# Served with another tokenizer, the same ids would be other text: words, digits and blanks, as most tokenizers differ.
_PROBE = "The 12 cats\n\n  saw $3.50 = \\frac{7}{2}; naïve 東京 🙂"


def urls_of(role: str) -> list[str]:
    """Return where a role's servers are.

    Raises:
        ConfigError: The environment does not say.
    """
    name = f"VCRD_{role.upper()}_URLS"
    urls = [url.strip() for url in os.environ.get(name, "").split(",") if url.strip()]
    if not urls or not all(url.startswith(("http://", "https://")) for url in urls):
        raise ConfigError(
            f"engine.served names {role}, so {name} must hold the URLs of its servers, such as http://host:8000 "
            f"(several with commas between); it holds {os.environ.get(name)!r}"
        )
    return urls


class ServerEngine:
    """A served model: it generates and scores.

    Attributes:
        tokenizer: Of the model, read here; the servers are asked whether theirs is the same.
        prefilled: Tokens of all prompts; what a server took from its cache counts where it tells (started with
            `--enable-prompt-tokens-details`).
    """

    def __init__(
        self, params: EngineParams, model: ModelRef, task: Task, urls: Sequence[str], patience: Patience | None = None
    ) -> None:
        """Read the tokenizer, and meet every server.

        Raises:
            ConfigError: A server does not answer, or serves another tokenizer; or the model is to classify.
        """
        from transformers import AutoConfig, AutoTokenizer

        if task == "classify":
            raise ConfigError(_NO_CLASSES)
        try:
            config = AutoConfig.from_pretrained(model.path, revision=model.revision, **NO_CODE)
            self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision, **NO_CODE)
        except (OSError, ValueError) as error:
            raise ConfigError(f"tokenizer of {model.path!r} cannot be read: {first_line(error)}") from error
        self.prefilled = PrefillCount()
        self.tell_in_flight: Callable[[Collection[str]], None] = silent
        self._in_flight, self._eos = params.max_in_flight, eos_ids(model, self.tokenizer)
        self._servers = Servers(urls, os.environ.get(KEY), patience or Patience(), params.max_in_flight)
        length = asyncio.run(self._meet())
        self._limits = Limits(config.vocab_size, min(length, params.max_model_len or length))

    def close(self) -> None:
        """Nothing is held between calls."""

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = silent) -> list[Generation | Failure]:
        """Continue prompts; see `vcrd.requests`."""

        def body(request: GenerateRequest) -> dict[str, Any]:
            sampling = request.sampling
            return {
                "prompt": list(request.prompt_ids),
                "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": request.seed,
                "stop": list(sampling.stop),
                "include_stop_str_in_output": True,
                "stop_token_ids": self._eos,
                "skip_special_tokens": False,
                "logprobs": sampling.top_k_logprobs,
                "return_tokens_as_token_ids": True,
            }

        def read(request: GenerateRequest, answer: Any) -> Generation | Failure:
            return read_generation(request, answer, len(self.tokenizer))

        refuse = self._limits.refuse_generate
        return self._ask(requests, refuse, lambda item: item.prompt_ids, body, read, progress)

    def score(self, requests: Sequence[ScoreRequest], progress: Progress = silent) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens; see `vcrd.requests`."""

        def body(request: ScoreRequest) -> dict[str, Any]:
            return {
                "prompt": list(request.token_ids),
                "max_tokens": 1,
                "temperature": 0.0,
                "prompt_logprobs": request.top_k_logprobs,
            }

        refuse = self._limits.with_room_for_one().refuse_score
        return self._ask(requests, refuse, lambda item: item.token_ids, body, read_scores, progress)

    def classify(
        self, requests: Sequence[ClassifyRequest], progress: Progress = silent
    ) -> list[Classification | Failure]:
        """Refuse: a completions server has no classes for tokens."""
        raise ConfigError(_NO_CLASSES)

    async def _meet(self) -> int:
        """Ask every server what it serves; return the length that all can take."""
        lengths: list[int] = []
        own = self.tokenizer.encode(_PROBE, add_special_tokens=False)
        async with self._servers as servers:
            for url in servers.urls:
                name, length = await servers.ask(url, "/v1/models", _card)
                probe = {"prompt": _PROBE, "add_special_tokens": False}
                if await servers.ask(url, "/tokenize", lambda answer: list(answer["tokens"]), probe) != own:
                    raise ConfigError(
                        f"{url} serves {name!r}, whose tokenizer is not the run's; serve the model of params.yaml"
                    )
                lengths.append(length)
        return min(lengths)

    def _ask(
        self,
        requests: Sequence[Request],
        refuse: Callable[[Request], Failure | None],
        ids: Callable[[Request], Sequence[int]],
        body: Callable[[Request], dict[str, Any]],
        read: Callable[[Request, Any], Any],
        progress: Progress,
    ) -> list[Any]:
        """Keep a bounded number of requests on their way; each is answered once, in its own place."""
        answers, order = answerable(requests, refuse, ids)
        waiting = iter(order)
        live: dict[int, str] = {}

        async def work(servers: Servers) -> None:
            for index in waiting:
                request = requests[index]
                live[index] = request.id
                self.tell_in_flight(live.values())
                read_one = partial(_read_with_prefill, read, request)
                try:
                    answers[index], prefilled = await servers.post("/v1/completions", body(request), read_one)
                    self.prefilled += prefilled
                except Refused as error:
                    answers[index] = Failure(id=request.id, reason=error.reason, message=error.message)
                del live[index]
                progress(len(getattr(answers[index], "token_ids", ids(request))))

        async def work_together() -> None:
            async with self._servers as servers, asyncio.TaskGroup() as group:
                for _ in range(min(self._in_flight, len(order))):
                    group.create_task(work(servers))

        try:
            asyncio.run(work_together())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # the others were cancelled for it, or say the same
        self.tell_in_flight(())
        return [answers[index] for index in range(len(requests))]


def _read_with_prefill(read: Callable[[Any, Any], Any], request: Any, answer: Any) -> tuple[Any, PrefillCount]:
    return read(request, answer), read_prefill(answer)


def _card(answer: Any) -> tuple[str, int]:
    (card, *_) = answer["data"]
    return str(card["id"]), int(card["max_model_len"])
