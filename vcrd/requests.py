"""What engines take and give: three kinds of request on token ids, and their answers.

An engine answers `GenerateRequest` with `Generation`, `ScoreRequest` with `Scores`, `ClassifyRequest` with
`Classification`; a request that cannot be answered gets a `Failure` and disturbs no other. All log-probabilities are
natural, at temperature 1, in float32.

Axis letters: T tokens, K kept candidates per token, P read positions, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]


def derive_seed(run_seed: int, record_id: str) -> int:
    """Return the seed of one record's random choices, in [0, 2^31): by hash, so that no two records' overlap."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}:{record_id}".encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose tokens.

    Attributes:
        max_tokens: Upper bound on generated tokens.
        temperature: 0 is greedy.
        top_p: Nucleus mass, in (0, 1].
        stop: Generation ends after the token that completes any of these strings; that token is kept.
        top_k_logprobs: Candidates per token to report; 0 reports none. (It does not restrict the sampling.)
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    top_k_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """Continue `prompt_ids`; `seed` decides every random choice, whatever else is in the batch."""

    id: str
    prompt_ids: Sequence[int]
    seed: int
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """Log-probability of each given token from index `start` (at least 1) on, given all before it."""

    id: str
    token_ids: Sequence[int]
    start: int
    top_k_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHead:
    """What an engine that classifies reads off a token; chosen when it is loaded, as vLLM builds the head then.

    Attributes:
        kind: "classes": the checkpoint's own classifier, softmax over its classes; "tokens": a language model's
            next-token logits of `label_ids`, softmax over these alone; "value": a scalar value head, sigmoid.
        label_ids: Of "tokens": the classes, in this order.
    """

    kind: Literal["classes", "tokens", "value"] = "classes"
    label_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyRequest:
    """Class probabilities at the given token positions, by the head that the engine was loaded with."""

    id: str
    token_ids: Sequence[int]
    read_positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """The K likeliest candidates per token, likeliest first, and the rest of the mass as one class.

    Attributes:
        ids: [T, K].
        logprobs: [T, K].
        tail: [T], log of the probability mass outside the K candidates.
    """

    ids: IntArray
    logprobs: FloatArray
    tail: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Answer to `GenerateRequest`; `token_ids` includes the EOS or the token that completed a stop string.

    Attributes:
        id: Of the request.
        token_ids: T generated ids.
        logprobs: [T], of the chosen tokens.
        top: Candidates per token where they were asked for.
        finish_reason: "eos", "stop" (a stop string) or "length".
    """

    id: str
    token_ids: list[int]
    logprobs: FloatArray
    finish_reason: str
    top: TopLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Answer to `ScoreRequest`; row t describes token `start + t`."""

    id: str
    logprobs: FloatArray
    top: TopLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Answer to `ClassifyRequest`: probabilities [P, C], rows in the order of the read positions; a value has C = 1."""

    id: str
    probabilities: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The request could not be answered: a short machine-readable reason, and a sentence for people."""

    id: str
    reason: str
    message: str = field(default="")
