"""What a completions server's JSON says, as answers; whatever does not fit raises a KeyError, TypeError or ValueError.

Axis letters: T tokens, K kept candidates per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.engines.base import PrefillCount, not_finite, tail_of
from vcrd.requests import Failure, GenerateRequest, Generation, ScoreRequest, Scores, TopLogprobs

_PLACEHOLDER = "token_id:"
# JSON has no infinity: servers write this in its place.
_NOTHING = -9999.0
_FINISHED = {"stop": "eos", "length": "length"}


def read_generation(request: GenerateRequest, answer: Any, vocabulary: int) -> Generation | Failure:
    """Read a continuation; ids from `vocabulary` on are the padding of the model's head."""
    (choice,) = answer["choices"]
    told = choice["logprobs"]
    token_ids = [_id_of(name) for name in told["tokens"]]
    if max(token_ids) >= vocabulary:
        message = f"the head is padded: id {max(token_ids)} was drawn, the tokenizer has {vocabulary}"
        return Failure(id=request.id, reason="token_out_of_vocabulary", message=message)
    logprobs = np.array(told["token_logprobs"], np.float32)
    if len(logprobs) != len(token_ids):
        raise ValueError(f"{len(token_ids)} tokens, {len(logprobs)} log-probabilities")
    if not np.isfinite(logprobs).all() or (logprobs <= _NOTHING).any():
        return not_finite(request.id)
    k = request.sampling.top_k_logprobs
    rows = [{_id_of(name): value for name, value in row.items()} for row in told["top_logprobs"]] if k else []
    finished = "stop" if isinstance(choice["stop_reason"], str) else _FINISHED[choice["finish_reason"]]
    return Generation(
        id=request.id,
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=finished,
        top=_candidates(token_ids, rows, k) if k else None,
    )


def read_scores(request: ScoreRequest, answer: Any) -> Scores | Failure:
    """Read what the tokens from `start` on were given."""
    (choice,) = answer["choices"]
    token_ids, told = list(request.token_ids[request.start :]), choice["prompt_logprobs"][request.start :]
    rows = [{int(name): item["logprob"] for name, item in row.items()} for row in told]
    if len(rows) != len(token_ids):
        raise ValueError(f"{len(token_ids)} tokens, log-probabilities of {len(rows)}")
    logprobs = np.array([row[token] for token, row in zip(token_ids, rows, strict=True)], np.float32)
    if not np.isfinite(logprobs).all() or (logprobs <= _NOTHING).any():
        return not_finite(request.id)
    k = request.top_k_logprobs
    return Scores(id=request.id, logprobs=logprobs, top=_candidates(token_ids, rows, k) if k else None)


def read_prefill(answer: Any) -> PrefillCount:
    """Read how many prompt tokens there were, and how many came from the server's cache, where it tells."""
    usage = answer["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return PrefillCount(usage["prompt_tokens"], usage["prompt_tokens"] - cached)


def _id_of(name: str) -> int:
    if not name.startswith(_PLACEHOLDER):
        raise ValueError(f"expected {_PLACEHOLDER}NUMBER, got {name[:20]!r}; vllm serve from 0.6 on can tell ids")
    return int(name.removeprefix(_PLACEHOLDER))


def _candidates(token_ids: Sequence[int], rows: Sequence[Mapping[int, float]], k: int) -> TopLogprobs:
    """Order each token's candidates; a server adds the token itself where it is none of the k likeliest."""
    ids_TK, logprobs_TK = [], []
    for token, row in zip(token_ids, rows, strict=True):
        others = [item for item in row.items() if item[0] != token or len(row) == k]
        likeliest = sorted(others, key=lambda item: -item[1])[:k]
        ids_TK.append([name for name, _ in likeliest])
        logprobs_TK.append([value if value > _NOTHING else -np.inf for _, value in likeliest])
    logprobs = np.array(logprobs_TK, np.float64)
    return TopLogprobs(np.array(ids_TK, np.int32), logprobs.astype(np.float32), tail_of(logprobs))
