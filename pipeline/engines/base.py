"""What an engine is, what it can be told, and which requests it refuses before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from vcrd.errors import ConfigError
from vcrd.requests import (
    Classification,
    ClassifyRequest,
    Failure,
    GenerateRequest,
    Generation,
    ScoreRequest,
    Scores,
    TokenHead,
)
from vcrd.trees import lexicographic

Task = Literal["generate", "classify"]
Progress = Callable[[int], None]
Request = TypeVar("Request", GenerateRequest, ScoreRequest, ClassifyRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParams:
    """How models are run."""

    name: Literal["transformers", "vllm"]
    """transformers: CPU or GPU, no server; vllm: in process, streaming."""
    served: tuple[str, ...] = ()
    """Roles whose model `vllm serve` runs elsewhere, such as teacher; VCRD_TEACHER_URLS says where."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Of the weights and activations; softmax statistics are always float32."""
    device: Literal["auto", "cpu", "cuda"]
    """auto takes a GPU where there is one."""
    threads: Annotated[int, Ge(1)]
    """CPU threads of an engine; sums depend on it, so it is part of what decides the output."""
    batch_size: Annotated[int, Ge(1)]
    """Sequences run together."""
    max_in_flight: Annotated[int, Ge(1)]
    """Requests that vllm, or all servers together, hold at a time; the rest waits."""
    max_model_len: Annotated[int, Ge(1)] | None
    """Longest sequence; null: what the model was made for."""
    gpu_memory_utilization: Annotated[float, Gt(0), Le(1)]
    """Share of a GPU's memory that vllm takes."""
    tensor_parallel_size: Annotated[int, Ge(1)]
    """GPUs per engine (vllm)."""
    kv_cache_gib: Annotated[int, Ge(1)]
    """Memory for vllm's cache where it runs on CPU."""

    @property
    def at_a_time(self) -> int:
        """Requests that an engine has in hand at a time."""
        return self.batch_size if self.name == "transformers" and not self.served else self.max_in_flight

    def halved(self) -> EngineParams:
        """Return those of an engine that holds half as much at a time, and one sequence at least."""
        return replace(self, batch_size=max(1, self.batch_size // 2), max_in_flight=max(1, self.max_in_flight // 2))


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A local folder, or a Hub name at a revision."""

    path: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class PrefillCount:
    """Prompt tokens that requests held, and how many of them were computed; what fills a batch up counts in neither."""

    asked: int = 0
    computed: int = 0

    def __add__(self, other: PrefillCount) -> PrefillCount:
        return PrefillCount(self.asked + other.asked, self.computed + other.computed)

    def __sub__(self, other: PrefillCount) -> PrefillCount:
        return PrefillCount(self.asked - other.asked, self.computed - other.computed)

    @property
    def hit_rate(self) -> float:
        """Share of the tokens that were there already, in [0, 1)."""
        return 1 - self.computed / self.asked if self.asked else 0.0


class Engine(Protocol):
    """Answers requests on token ids, in their order; a request that fails disturbs no other.

    Attributes:
        tokenizer: Of its model.
        prefilled: Since it was loaded; a difference of two readings is what was done between them.
        tell_in_flight: Called with the ids of the requests that are being answered, whenever these change; who
            supervises the engine puts another in its place.
    """

    tokenizer: Any
    prefilled: PrefillCount
    tell_in_flight: Callable[[Collection[str]], None]

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = ...) -> list[Generation | Failure]:
        """Continue prompts."""

    def score(self, requests: Sequence[ScoreRequest], progress: Progress = ...) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens."""

    def classify(self, requests: Sequence[ClassifyRequest], progress: Progress = ...) -> list[Classification | Failure]:
        """Give class probabilities at given tokens."""

    def close(self) -> None:
        """Free what the engine holds."""


def silent(what: object) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can take: ids below `vocabulary_size`, at most `max_length` tokens."""

    vocabulary_size: int
    max_length: int

    def refuse_generate(self, request: GenerateRequest) -> Failure | None:
        """Say why a prompt cannot be continued."""
        longest = len(request.prompt_ids) + request.sampling.max_tokens
        return self._refuse(request.id, request.prompt_ids, longest)

    def with_room_for_one(self) -> Limits:
        """Return the limits of an engine that cannot score without generating a token besides, as vLLM cannot."""
        return replace(self, max_length=self.max_length - 1)

    def refuse_score(self, request: ScoreRequest) -> Failure | None:
        """Say why tokens cannot be scored."""
        if not 1 <= request.start <= len(request.token_ids):
            return Failure(id=request.id, reason="bad_position", message=f"start {request.start}")
        return self._refuse(request.id, request.token_ids, len(request.token_ids))

    def refuse_classify(self, request: ClassifyRequest) -> Failure | None:
        """Say why tokens cannot be classified."""
        if any(not 0 <= position < len(request.token_ids) for position in request.read_positions):
            return Failure(id=request.id, reason="bad_position", message=f"positions {list(request.read_positions)}")
        return self._refuse(request.id, request.token_ids, len(request.token_ids))

    def _refuse(self, name: str, token_ids: Sequence[int], longest: int) -> Failure | None:
        if not token_ids:
            return Failure(id=name, reason="empty_prompt", message="no token")
        if not 0 <= min(token_ids) <= max(token_ids) < self.vocabulary_size:
            message = f"ids must be below {self.vocabulary_size}, got {min(token_ids)}..{max(token_ids)}"
            return Failure(id=name, reason="token_out_of_vocabulary", message=message)
        if longest > self.max_length:
            return Failure(id=name, reason="too_long", message=f"{longest} tokens, the limit is {self.max_length}")
        return None


def check_model(model: ModelRef) -> None:
    """Refuse what cannot be a model: a folder that is not there or holds no configuration."""
    folder = Path(model.path)
    looks_local = model.path.startswith(("/", ".", "~")) or model.path.count("/") != 1
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model {model.path!r}: the folder has no config.json; give a saved transformers model")
    elif looks_local:
        raise ConfigError(f"model {model.path!r}: no such folder; give a local folder or a Hub name (org/name)")


def refuse_head(head: TokenHead, config: Any, path: str) -> None:
    """Refuse a language model whose next-token logits are more than its head's: the pair alone would read differently.

    Raises:
        ConfigError: It caps or scales its logits.
    """
    if head.kind != "tokens":
        return
    text_config = config.get_text_config()
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        value = getattr(text_config, name, None)
        if value not in (None, 1, 1.0):
            raise ConfigError(
                f"model {path!r} has {name} {value}: its next-token scores cannot be read here; take another"
            )


def answerable(
    requests: Sequence[Request], refuse: Callable[[Request], Failure | None], ids: Callable[[Request], Sequence[int]]
) -> tuple[dict[int, Any], list[int]]:
    """Return why some requests cannot be answered, and the places of the others; those that begin alike come together.

    Args:
        requests: In any order.
        refuse: Says why a request cannot be answered.
        ids: What a request begins with.
    """
    refused = {place: failure for place, request in enumerate(requests) if (failure := refuse(request)) is not None}
    good = [place for place in range(len(requests)) if place not in refused]
    return refused, [good[rank] for rank in lexicographic([ids(requests[place]) for place in good])]


def eos_ids(model: ModelRef, tokenizer: Any) -> list[int]:
    """Return the ids that end a generation: the tokenizer's, and those of the model's generation_config.json."""
    from transformers import GenerationConfig

    try:
        configured = GenerationConfig.from_pretrained(model.path, revision=model.revision)
    except OSError:
        configured = None
    return ending_ids(configured, tokenizer)


def ending_ids(configured: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a generation, by a generation's configuration (None: there is none) and a tokenizer."""
    more = getattr(configured, "eos_token_id", None)
    ids = {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])}
    return sorted(item for item in ids if item is not None)


def tail_of(logprobs: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the log of the mass that candidates leave, [T] from [T, K], where an engine gives candidates only.

    It is 1 minus their mass, as exact as fp32 log-probabilities allow.
    """
    mass = np.logaddexp.reduce(logprobs, axis=1)
    tail: NDArray[np.float32] = np.log(-np.expm1(np.minimum(mass, -1e-7))).astype(np.float32)
    return tail


def not_finite(name: str) -> Failure:
    """Say that a model's output for a request is not a number."""
    return Failure(id=name, reason="not_finite", message="the model's output is not a number")
