"""Choosing tokens so that a request's choices depend on its own seed alone, whatever shares its batch.

Axis letters: B sequences, V vocabulary, K kept candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vcrd.requests import GenerateRequest


def uniforms(requests: Sequence[GenerateRequest]) -> torch.Tensor:
    """Return one number in [0, 1) per sequence and step, [B, longest max_tokens]; each row from its own seed."""
    longest = max(request.sampling.max_tokens for request in requests)
    rows = [np.random.Generator(np.random.Philox(request.seed)).random(longest) for request in requests]
    return torch.from_numpy(np.stack(rows))


def choose(
    logprobs_BV: torch.Tensor, temperature_B1: torch.Tensor, top_p_B1: torch.Tensor, uniform_B: torch.Tensor
) -> torch.Tensor:
    """Draw a token per sequence by inverting the cumulative distribution in the order of ids; temperature 0 is greedy.

    Args:
        logprobs_BV: Log-probabilities at temperature 1; -inf where nothing may be drawn.
        temperature_B1: At least 0.
        top_p_B1: Nucleus mass in (0, 1].
        uniform_B: Numbers in [0, 1).

    Returns:
        Ids, [B].
    """
    greedy_B = logprobs_BV.argmax(-1)
    if bool((temperature_B1 == 0).all()):
        return greedy_B
    scaled_BV = logprobs_BV.double() / temperature_B1.clamp_min(1e-6)
    probabilities_BV = torch.softmax(scaled_BV, -1)
    if bool((top_p_B1 < 1).any()):
        probabilities_BV = _nucleus(probabilities_BV, top_p_B1)
    cumulative_BV = probabilities_BV.cumsum(-1)
    drawn_B1 = (uniform_B.unsqueeze(-1) * cumulative_BV[:, -1:]).clamp_max(cumulative_BV[:, -1:] * (1 - 1e-12))
    sampled_B = torch.searchsorted(cumulative_BV, drawn_B1, right=True).squeeze(-1)
    return torch.where(temperature_B1.squeeze(-1) == 0, greedy_B, sampled_B.clamp_max(logprobs_BV.shape[-1] - 1))


def _nucleus(probabilities_BV: torch.Tensor, top_p_B1: torch.Tensor) -> torch.Tensor:
    """Zero what lies outside the smallest set of likeliest tokens that holds the mass; ties by id."""
    ordered_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
    outside_BV = ordered_BV.cumsum(-1) - ordered_BV >= top_p_B1
    return probabilities_BV.masked_fill(torch.zeros_like(outside_BV).scatter(-1, order_BV, outside_BV), 0.0)


def top_candidates(logprobs_BV: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids [B, K], log-probabilities [B, K] and the log of the rest of the mass [B].

    The rest is a log-sum-exp of its own: 1 minus the sum would lose it where the candidates hold nearly everything.
    """
    k = min(k, logprobs_BV.shape[-1])
    top_BK, ids_BK = logprobs_BV.topk(k, dim=-1)
    tail_B = logprobs_BV.scatter(-1, ids_BK, float("-inf")).logsumexp(-1)
    return ids_BK, top_BK, tail_B
