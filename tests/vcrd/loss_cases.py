"""Predictions for the tests of the fused loss, and both formulations of the loss on them."""

import torch
from torch import Tensor

from vcrd.losses import fused_weighted_loss, weighted_loss

H = 16


def make(t: int, v: int, k: int, seed: int, sharp: float = 1.0, spread: float = 0.0, near: bool = False) -> dict:
    """Draw float32 values: weights over `spread` decades each way; if asked, a teacher that is nearly the student."""
    generator = torch.Generator().manual_seed(seed)
    hidden, head = torch.randn(t, H, generator=generator), torch.randn(v, H, generator=generator) * 0.5
    bias = torch.randn(v, generator=generator)
    teacher = torch.randn(t, v, generator=generator, dtype=torch.float64) * sharp
    if near:
        teacher = (hidden.double() @ head.double().T + bias) + 0.01 * teacher
    teacher = teacher.log_softmax(-1)
    top, ids = teacher.topk(k, -1)
    tail = teacher.scatter(-1, ids, float("-inf")).logsumexp(-1)
    labels = torch.randint(0, v, (t,), generator=generator)
    labels[torch.rand(t, generator=generator) < 0.25] = -100
    uniform = torch.rand(t, generator=generator)
    weights = 10 ** (spread * (2 * uniform - 1)) if spread else 3 * uniform
    weights[torch.rand(t, generator=generator) < 0.2] = 0
    blank = torch.rand(t, generator=generator) < (0.0 if near else 0.3)
    ids[blank], top[blank] = -1, float("-inf")
    return {
        "hidden": hidden,
        "head": head,
        "bias": bias,
        "labels": labels,
        "weights": weights,
        "ids": ids,
        "top": top.float(),
        "tail": tail.float(),
    }


def run(data: dict, fused: bool, dtype: torch.dtype, kl_coef: float, upstream: float = 1.7, **options) -> list[Tensor]:
    """Return loss and gradients of hidden states, head and bias."""
    hidden, head, bias = (data[name].detach().clone().to(dtype).requires_grad_() for name in ("hidden", "head", "bias"))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    signal = {
        "teacher_topk_ids_TK": data["ids"],
        "teacher_topk_logprobs_TK": data["top"].to(wide),
        "teacher_tail_logprob_T": None if data["tail"] is None else data["tail"].to(wide),
        "kl_coef": kl_coef,
    }
    rest = (data["labels"], data["weights"].to(torch.promote_types(wide, data["weights"].dtype)))
    if fused:
        loss = fused_weighted_loss(hidden, head, *rest, **signal, bias_V=bias, **options)
    else:
        loss = weighted_loss(hidden @ head.T + bias, *rest, **signal, **options).loss
    (loss * upstream).backward()
    return [loss.detach(), hidden.grad, head.grad, bias.grad]


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the largest relative error, by norm; where the truth is 0, 0 is the only right answer."""
    errors = []
    for a, b in zip(ours, theirs, strict=True):
        size = float(b.double().norm())
        off = float((a.double() - b.double()).norm())
        errors.append(off / size if size else float("inf") if off else 0.0)
    return max(errors)
