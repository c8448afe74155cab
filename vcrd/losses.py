"""The loss, in plain lines: weighted NLL, and forward KL over the teacher's top-k and a tail bucket.

Row t of every argument is one prediction: the caller has shifted labels and logits against each other.

Axis letters: T predictions, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100
_FLOOR = -1e4


class WeightedLoss(NamedTuple):
    """The loss and its pieces.

    Attributes:
        loss: Scalar that carries the gradient.
        nll_sum: Sum of w_t NLL_t, detached.
        kl_sum: Sum of w_t KL_t over predictions with a teacher signal, detached.
        n_supervised: Labels that are not -100.
        weight_sum: Sum of their weights.
    """

    loss: Tensor
    nll_sum: Tensor
    kl_sum: Tensor
    n_supervised: Tensor
    weight_sum: Tensor


def nll(logits_TV: Tensor, labels_T: Tensor) -> Tensor:
    """Return -log softmax(logits)[label], [T], with statistics in at least float32.

    Args:
        logits_TV: [T, V].
        labels_T: Ids in [0, V), [T].
    """
    logits_TV = _wide(logits_TV)
    chosen_T = logits_TV.gather(-1, labels_T.unsqueeze(-1)).squeeze(-1)
    return logits_TV.logsumexp(-1) - chosen_T


def tail_bucket_kl(
    logits_TV: Tensor, teacher_topk_ids_TK: Tensor, teacher_topk_logprobs_TK: Tensor, teacher_tail_logprob_T: Tensor
) -> Tensor:
    """Return the forward KL of teacher to student over k + 1 classes, [T].

    The classes are the teacher's candidates and one bucket with the rest of its mass: a true KL, and a lower bound of
    the full one. The student's tail is a log-sum-exp of its own, never 1 minus a sum.

    Args:
        logits_TV: Student, [T, V].
        teacher_topk_ids_TK: Distinct ids, -1 where there is no candidate, [T, K].
        teacher_topk_logprobs_TK: -inf where there is no candidate, [T, K].
        teacher_tail_logprob_T: Log of the rest of the mass, -inf for none, [T].
    """
    logits_TV = _wide(logits_TV)
    kept_TK = (teacher_topk_ids_TK >= 0) & torch.isfinite(teacher_topk_logprobs_TK)
    ids_TK = teacher_topk_ids_TK.clamp_min(0)
    teacher_TK = torch.where(kept_TK, teacher_topk_logprobs_TK, 0.0).to(logits_TV.dtype)
    total_T1 = logits_TV.logsumexp(-1, keepdim=True)
    student_TK = logits_TV.gather(-1, ids_TK) - total_T1
    head_T = torch.where(kept_TK, teacher_TK.exp() * (teacher_TK - student_TK), 0.0).sum(-1)

    on_support_TV = torch.zeros_like(logits_TV, dtype=torch.bool).scatter_add(-1, ids_TK, kept_TK)
    # A support that covers the vocabulary leaves no tail; the finite filler keeps its gradient a number.
    rest_TV = logits_TV.masked_fill(on_support_TV, _FLOOR)
    student_tail_T = rest_TV.logsumexp(-1) - total_T1.squeeze(-1)
    has_tail_T = torch.isfinite(teacher_tail_logprob_T)
    tail_T = torch.where(has_tail_T, teacher_tail_logprob_T, 0.0).to(logits_TV.dtype)
    bucket_T = torch.where(has_tail_T, tail_T.exp() * (tail_T - student_tail_T), 0.0)
    return head_T + bucket_T


def weighted_loss(
    logits_TV: Tensor,
    labels_T: Tensor,
    token_weights_T: Tensor,
    *,
    teacher_topk_ids_TK: Tensor | None = None,
    teacher_topk_logprobs_TK: Tensor | None = None,
    teacher_tail_logprob_T: Tensor | None = None,
    kl_coef: float = 0.0,
    denominator: Tensor | float | None = None,
) -> WeightedLoss:
    """Return sum_t w_t [(1 - kl_coef) NLL_t + kl_coef KL_t] / denominator.

    A prediction without a teacher signal has plain NLL at full weight. Labels of -100 and weights of 0 are dropped
    before any softmax.

    Args:
        logits_TV: [T, V].
        labels_T: Ids, -100 where nothing is learned, [T].
        token_weights_T: At least 0, [T].
        teacher_topk_ids_TK: See `tail_bucket_kl`.
        teacher_topk_logprobs_TK: See `tail_bucket_kl`.
        teacher_tail_logprob_T: See `tail_bucket_kl`.
        kl_coef: In [0, 1].
        denominator: None counts the labels that are not -100.

    Raises:
        ValueError: The arguments do not belong together.
    """
    if labels_T.shape != token_weights_T.shape or labels_T.shape != logits_TV.shape[:-1]:
        raise ValueError(
            "expected [T, V], [T], [T]; got "
            f"{list(logits_TV.shape)}, {list(labels_T.shape)}, {list(token_weights_T.shape)}"
        )
    supervised_T = labels_T != IGNORED
    active_T = supervised_T & (token_weights_T > 0)
    logits_TV, labels_T = logits_TV[active_T], labels_T[active_T]
    weights_T = _wide(token_weights_T[active_T])
    if labels_T.numel() and int(labels_T.max()) >= logits_TV.shape[-1]:
        raise ValueError(f"a label is {int(labels_T.max())}, the vocabulary has {logits_TV.shape[-1]} ids")

    nll_T = nll(logits_TV, labels_T)
    per_token_T = nll_T
    kl_T = torch.zeros_like(nll_T)
    if kl_coef > 0 and teacher_topk_ids_TK is not None:
        if teacher_topk_logprobs_TK is None or teacher_tail_logprob_T is None:
            raise ValueError("teacher_topk_ids needs teacher_topk_logprobs and teacher_tail_logprob beside it")
        ids_TK = teacher_topk_ids_TK[active_T]
        signal_T = (ids_TK >= 0).any(-1)
        kl_T = torch.where(
            signal_T,
            tail_bucket_kl(logits_TV, ids_TK, teacher_topk_logprobs_TK[active_T], teacher_tail_logprob_T[active_T]),
            0.0,
        )
        per_token_T = torch.where(signal_T, (1 - kl_coef) * nll_T + kl_coef * kl_T, nll_T)
    count = supervised_T.sum()
    divisor = count if denominator is None else denominator
    # Without a supervised token the loss is 0 and still carries a gradient (of 0), as trainers expect.
    loss = (weights_T * per_token_T).sum() / torch.as_tensor(divisor).clamp_min(1e-12)
    return WeightedLoss(
        loss,
        (weights_T * nll_T).sum().detach(),
        (weights_T * kl_T).sum().detach(),
        count,
        _wide(token_weights_T)[supervised_T].sum(),
    )


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
