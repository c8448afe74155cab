"""What vLLM's outputs say, as answers; its log-probabilities come flat, so that no token costs a Python object.

Axis letters: T tokens, K kept candidates per token, P read positions, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engines.base import not_finite, tail_of
from vcrd.requests import (
    Classification,
    ClassifyRequest,
    Failure,
    GenerateRequest,
    Generation,
    ScoreRequest,
    Scores,
    TopLogprobs,
)


def read_generation(request: GenerateRequest, output: Any, vocabulary: int) -> Generation | Failure:
    """Read a continuation; ids from `vocabulary` on are the padding of the model's head."""
    made = output.outputs[0]
    token_ids = list(made.token_ids)
    if max(token_ids) >= vocabulary:
        message = f"the head is padded: id {max(token_ids)} was drawn, the tokenizer has {vocabulary}"
        return Failure(id=request.id, reason="token_out_of_vocabulary", message=message)
    logprobs, top = _candidates(made.logprobs, len(token_ids))
    if not np.isfinite(logprobs).all():
        return not_finite(request.id)
    ended = "stop" if isinstance(made.stop_reason, str) else "eos"
    return Generation(
        id=request.id,
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=ended if made.finish_reason == "stop" else "length",
        top=top,
    )


def read_scores(request: ScoreRequest, output: Any) -> Scores | Failure:
    """Read what the tokens from `start` on were given; vLLM has nothing to say of a prompt's first token."""
    logprobs, top = _candidates(output.prompt_logprobs, len(request.token_ids) - 1, request.start - 1)
    if not np.isfinite(logprobs).all():
        return not_finite(request.id)
    return Scores(id=request.id, logprobs=logprobs, top=top)


def read_classification(request: ClassifyRequest, output: Any) -> Classification | Failure:
    """Read the probabilities where they are asked for."""
    probabilities = output.outputs.data.float().numpy()[list(request.read_positions)]
    if not np.isfinite(probabilities).all():
        return not_finite(request.id)
    return Classification(id=request.id, probabilities=probabilities)


def _candidates(flat: Any, rows: int, first: int = 0) -> tuple[NDArray[np.float32], TopLogprobs | None]:
    """Return the tokens' own log-probabilities, [T], and their likeliest candidates where these were asked for.

    Every one of the `rows` holds the token itself, then K candidates, likeliest first; those before `first` are left
    out.
    """
    ids = np.array(flat.token_ids, np.int32).reshape(rows, -1)[first:]
    logprobs = np.array(flat.logprobs, np.float64).reshape(rows, -1)[first:]
    own = logprobs[:, 0].astype(np.float32)
    if ids.shape[1] == 1:
        return own, None
    return own, TopLogprobs(ids[:, 1:], logprobs[:, 1:].astype(np.float32), tail_of(logprobs[:, 1:]))
