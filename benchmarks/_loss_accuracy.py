"""How far the fused loss and its gradients are from a dense computation in float64 on the same rounded inputs.

Axis letters: T predictions, H width, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from vcrd.losses import fused_weighted_loss, weighted_loss

T, H, V, PADDING = 96, 128, 2_000, 48
CASES = list(
    itertools.product(
        (1, 4, 16, 64),  # candidates
        (0.1, 1.0, 5.0, 30.0),  # the teacher's logits times this: from flat to sure
        ("ordinary", "tiny to huge"),  # weights in [0, 1), or 1e-6 to 1e6; mean 1
        (0.0, 0.5, 1.0),  # kl_coef
    )
)


def errors(dtype: torch.dtype) -> list[float]:
    """Return the relative error of each case: the largest of loss, hidden states' and head's gradient, by norm."""
    return [max(_case(seed, dtype, *case)) for seed, case in enumerate(CASES)]


def _case(seed: int, dtype: torch.dtype, k: int, sharpness: float, weighting: str, kl_coef: float) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    hidden_TH = torch.randn(T, H, generator=generator).to(dtype)
    head_VH = (torch.randn(V + PADDING, H, generator=generator) * 2 / H**0.5).to(dtype)
    teacher_TV = (torch.randn(T, V, generator=generator, dtype=torch.float64) * sharpness).log_softmax(-1)
    top_TK, ids_TK = teacher_TV.topk(k, -1)
    tail_T = teacher_TV.scatter(-1, ids_TK, float("-inf")).logsumexp(-1)
    weights_T = torch.rand(T, generator=generator)
    if weighting != "ordinary":
        weights_T = 10 ** (12 * weights_T - 6)
    weights_T /= weights_T.mean()
    labels_T = torch.randint(0, V, (T,), generator=generator)
    labels_T[::7] = -100
    ids_TK[::5], top_TK[::5] = -1, float("-inf")
    signal: dict[str, Any] = {
        "teacher_topk_ids_TK": ids_TK,
        "teacher_topk_logprobs_TK": top_TK.float(),
        "teacher_tail_logprob_T": tail_T.float(),
        "kl_coef": kl_coef,
    }
    leaves = [each.requires_grad_() for each in (hidden_TH, head_VH)]
    loss = fused_weighted_loss(hidden_TH, head_VH, labels_T, weights_T, **signal, vocab_size=V, chunk_size=40)
    loss.backward()
    dense = _dense(hidden_TH, head_VH, labels_T, weights_T, signal)
    ours = [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(ours, dense, strict=True)]


def _dense(
    hidden_TH: Tensor, head_VH: Tensor, labels_T: Tensor, weights_T: Tensor, signal: dict[str, Any]
) -> list[Tensor]:
    hidden_TH, head_VH = (each.detach().double().requires_grad_() for each in (hidden_TH, head_VH))
    wide: dict[str, Any] = {
        key: each.double() if torch.is_tensor(each) and "log" in key else each for key, each in signal.items()
    }
    loss = weighted_loss(hidden_TH @ head_VH[:V].T, labels_T, weights_T.double(), **wide).loss
    return [loss.detach(), *torch.autograd.grad(loss, (hidden_TH, head_VH))]
