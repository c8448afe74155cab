"""The formulations of the loss that `benchmarks.loss` compares: each a forward and a backward on the same inputs.

Axis letters: T predictions, H width, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vcrd.losses import fused_weighted_loss, weighted_loss

KL_COEF = 0.5


@dataclass(frozen=True)
class Inputs:
    """What all formulations are given; nothing made on the way to it is larger than itself."""

    hidden_TH: Tensor
    head_VH: Tensor
    labels_T: Tensor
    weights_T: Tensor
    signal: dict[str, Any]


def inputs(t: int, h: int, v: int, k: int, *, device: str, dtype: torch.dtype) -> Inputs:
    """Draw hidden states, head, labels, weights and k candidates a row that hold 30 % of the teacher's mass."""
    torch.manual_seed(0)
    hidden_TH = torch.randn(t, h, device=device, dtype=dtype)
    head_VH = torch.randn(v, h, device=device, dtype=dtype).mul_(0.02)
    ids_TK = (torch.randint(0, v, (t, 1), device=device) + torch.arange(k, device=device) * (v // k)) % v
    top_TK = torch.full((t, k), 0.3 / k, device=device).log()
    signal = {
        "teacher_topk_ids_TK": ids_TK,
        "teacher_topk_logprobs_TK": top_TK,
        "teacher_tail_logprob_T": torch.log(-torch.expm1(top_TK.logsumexp(-1))),
    }
    labels_T, weights_T = torch.randint(0, v, (t,), device=device), torch.rand(t, device=device) + 0.5
    return Inputs(hidden_TH.requires_grad_(), head_VH.requires_grad_(), labels_T, weights_T, signal)


def fused(given: Inputs) -> None:
    """Run this package's."""
    loss = fused_weighted_loss(
        given.hidden_TH, given.head_VH, given.labels_T, given.weights_T, **given.signal, kl_coef=KL_COEF
    )
    loss.backward()


def materialised(given: Inputs) -> None:
    """Run the plain loss on whole logits, its bucket summed exactly."""
    logits_TV = given.hidden_TH @ given.head_VH.T
    loss = weighted_loss(logits_TV, given.labels_T, given.weights_T, **given.signal, kl_coef=KL_COEF).loss
    loss.backward()  # type: ignore[no-untyped-call]


def lean(given: Inputs) -> None:
    """Run the leanest whole-logits loss: one log-softmax, the student's tail as 1 minus a sum."""
    logprobs_TV = (given.hidden_TH @ given.head_VH.T).float().log_softmax(-1)
    nll_T = -logprobs_TV.gather(-1, given.labels_T.unsqueeze(-1)).squeeze(-1)
    student_TK = logprobs_TV.gather(-1, given.signal["teacher_topk_ids_TK"])
    del logprobs_TV
    teacher_TK, tail_T = given.signal["teacher_topk_logprobs_TK"], given.signal["teacher_tail_logprob_T"]
    student_tail_T = torch.log(-torch.expm1(student_TK.logsumexp(-1)))
    kl_T = (teacher_TK.exp() * (teacher_TK - student_TK)).sum(-1) + tail_T.exp() * (tail_T - student_tail_T)
    loss = (given.weights_T * ((1 - KL_COEF) * nll_T + KL_COEF * kl_T)).mean()
    loss.backward()


def products(given: Inputs) -> None:
    """Run the three bare matrix products."""
    hidden_TH, head_VH = given.hidden_TH.detach(), given.head_VH.detach()
    logits_TV = hidden_TH @ head_VH.T
    _ = logits_TV @ head_VH, logits_TV.T @ hidden_TH


def trl(given: Inputs) -> None:
    """Run TRL's chunked log-probabilities: weighted NLL, no teacher."""
    from trl.kernels import ChunkedLogProbFunction

    arguments = (given.hidden_TH, given.head_VH, None, given.labels_T, 1.0, 32_768, None, 1.0, ())
    logprobs_T = ChunkedLogProbFunction.apply(*arguments)[0]
    (-logprobs_T * given.weights_T).mean().backward()


def liger(given: Inputs) -> None:
    """Run Liger's fused cross-entropy: NLL without weights, no teacher."""
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    LigerFusedLinearCrossEntropyFunction.apply(given.hidden_TH, given.head_VH, given.labels_T)[0].backward()


def cut_cross_entropy(given: Inputs) -> None:
    """Run cut-cross-entropy: NLL without weights, no teacher."""
    from cut_cross_entropy import linear_cross_entropy

    linear_cross_entropy(given.hidden_TH, given.head_VH, given.labels_T).backward()


OURS: dict[str, Callable[[Inputs], None]] = {
    "fused": fused,
    "products": products,
    "materialised": materialised,
    "lean": lean,
}
RIVALS: dict[str, Callable[[Inputs], None]] = {
    "trl": trl,
    "liger_kernel": liger,
    "cut_cross_entropy": cut_cross_entropy,
}


def rivals(device: str) -> list[str]:
    """Return the rivals that run here; say on standard error why another does not."""
    found = []
    for name in RIVALS:
        if importlib.util.find_spec(name) is None:
            reason = "it is not installed"
        elif name != "trl" and device == "cpu":
            reason = "its kernels need a GPU"
        else:
            found.append(name)
            continue
        sys.stderr.write(f"left out on {device}: {name}, {reason}\n")
    return found
