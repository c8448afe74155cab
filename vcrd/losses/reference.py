"""The loss, in plain lines on whole logits: weighted NLL, and forward KL over the teacher's top-k and a tail bucket.

Row t of every argument is one prediction: the caller has shifted labels and logits against each other. Statistics are
in float32, in float64 where the logits are.

Axis letters: T predictions, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcrd.losses.signal import IGNORED, check_predictions, read_teacher, tail_logprob


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


def weighted_nll(logits_TV: Tensor, labels_T: Tensor, token_weights_T: Tensor) -> Tensor:
    """Return w_t NLL_t, [T]: NLL_t = -log softmax(logits_t)[label_t].

    Args:
        logits_TV: [T, V].
        labels_T: Ids in [0, V); -100 masks: the row's loss and gradient are 0, [T].
        token_weights_T: At least 0; 0 masks as -100 does, [T].

    >>> weighted_nll(torch.zeros(3, 4), torch.tensor([1, -100, 0]), torch.tensor([2.0, 1.0, 0.0]))
    tensor([2.7726, 0.0000, 0.0000])
    """
    logits_TV = _wide(logits_TV)
    active_T = (labels_T != IGNORED) & (token_weights_T > 0)
    label_T1 = torch.where(active_T, labels_T, 0).long().unsqueeze(-1)
    nll_T = logits_TV.logsumexp(-1) - logits_TV.gather(-1, label_T1).squeeze(-1)
    return torch.where(active_T, token_weights_T * nll_T, 0.0)


def weighted_kl(
    logits_TV: Tensor,
    token_weights_T: Tensor,
    teacher_topk_ids_TK: Tensor,
    teacher_topk_logprobs_TK: Tensor,
    teacher_tail_logprob_T: Tensor | None = None,
) -> Tensor:
    """Return w_t KL_t, [T]: KL_t = sum_c p_tc log(p_tc / q_tc) over k + 1 classes, from teacher p to student q.

    The classes are the teacher's candidates and one bucket with the rest of the mass (none where the candidates are
    the whole vocabulary). So it is a true KL, at most the full one, and its minimum is where the student has the
    teacher's probabilities: a sum over the candidates alone, renormalised or not, has another minimum. The student's
    bucket is a log-sum-exp of its own, never 1 minus a sum. Gradient in the logits, over w_t: q_j - p_j on the
    candidates, q_j (1 - p_tail / q_tail) off them.

    Args:
        logits_TV: Student, [T, V].
        token_weights_T: At least 0; 0 masks: the row's loss and gradient are 0, [T].
        teacher_topk_ids_TK: Distinct ids, -1 where there is no candidate; a row of -1 masks as weight 0 does, [T, K].
        teacher_topk_logprobs_TK: -inf where there is no candidate, [T, K].
        teacher_tail_logprob_T: Log of the rest of the mass, -inf for none, [T]; None is `tail_logprob`.

    >>> teacher = torch.tensor([[0.5, 0.25]]).log()
    >>> weighted_kl(torch.zeros(1, 4), torch.tensor([2.0]), torch.tensor([[2, 0]]), teacher)  # 2 * 0.25 * log(2)
    tensor([0.3466])
    """
    logits_TV = _wide(logits_TV)
    kept_TK = (teacher_topk_ids_TK >= 0) & (teacher_topk_logprobs_TK > float("-inf"))
    ids_TK = torch.where(kept_TK, teacher_topk_ids_TK, 0).long()
    active_T = kept_TK.any(-1) & (token_weights_T > 0)
    total_T1 = logits_TV.logsumexp(-1, keepdim=True)
    teacher_TK = torch.where(kept_TK, teacher_topk_logprobs_TK, 0.0).to(logits_TV.dtype)
    student_TK = logits_TV.gather(-1, ids_TK) - total_T1
    candidates_T = torch.where(kept_TK, teacher_TK.exp() * (teacher_TK - student_TK), 0.0).sum(-1)

    on_support_TV = torch.zeros_like(logits_TV, dtype=torch.bool).scatter_add(-1, ids_TK, kept_TK)
    # The lowest finite number instead of -inf: a row without a tail would have a gradient of NaN times 0.
    rest_TV = logits_TV.masked_fill(on_support_TV, torch.finfo(logits_TV.dtype).min)
    student_tail_T = rest_TV.logsumexp(-1) - total_T1.squeeze(-1)
    if teacher_tail_logprob_T is None:
        teacher_tail_logprob_T = tail_logprob(teacher_topk_logprobs_TK.masked_fill(~kept_TK, float("-inf")))
    has_tail_T = (teacher_tail_logprob_T > float("-inf")) & (kept_TK.sum(-1) < logits_TV.shape[-1])
    tail_T = torch.where(has_tail_T, teacher_tail_logprob_T, 0.0).to(logits_TV.dtype)
    bucket_T = torch.where(has_tail_T, tail_T.exp() * (tail_T - student_tail_T), 0.0)
    return torch.where(active_T, token_weights_T * (candidates_T + bucket_T), 0.0)


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
    """Return sum_t w_t [(1 - kl_coef) NLL_t + kl_coef KL_t] / denominator, and its pieces.

    A prediction without a teacher signal has plain NLL at full weight. Labels of -100 and weights of 0 are dropped
    before any softmax.

    Args:
        logits_TV: [T, V].
        labels_T: Ids, -100 where nothing is learned, [T].
        token_weights_T: At least 0, [T].
        teacher_topk_ids_TK: See `weighted_kl`.
        teacher_topk_logprobs_TK: See `weighted_kl`.
        teacher_tail_logprob_T: See `weighted_kl`.
        kl_coef: In [0, 1]; at 0 the teacher is not looked at.
        denominator: None counts the labels that are not -100.

    Raises:
        ValueError: The arguments do not belong together, or hold what cannot be right.
    """
    if not 0 <= kl_coef <= 1:
        raise ValueError(f"kl_coef must be in [0, 1], got {kl_coef}")
    rows, vocabulary = logits_TV.shape
    check_predictions(rows, vocabulary, labels_T, token_weights_T)
    supervised_T = labels_T != IGNORED
    active_T = supervised_T & (token_weights_T > 0)
    weights_T = _wide(token_weights_T)
    count, weight_sum = supervised_T.sum(), weights_T[supervised_T].sum()
    teacher = None
    if kl_coef > 0:
        signal = (teacher_topk_ids_TK, teacher_topk_logprobs_TK, teacher_tail_logprob_T)
        teacher = read_teacher(active_T, vocabulary, *signal)
    if not bool(active_T.all()):
        logits_TV, labels_T, weights_T = logits_TV[active_T], labels_T[active_T], weights_T[active_T]

    nll_T = weighted_nll(logits_TV, labels_T, weights_T)
    if teacher is None:
        loss_T, kl_T = nll_T, torch.zeros_like(nll_T)
    else:
        has_signal_T = teacher.candidate_TK.any(-1)
        kl_T = weighted_kl(logits_TV, weights_T, *teacher)
        loss_T = torch.where(has_signal_T, (1 - kl_coef) * nll_T + kl_coef * kl_T, nll_T)
    divisor = torch.as_tensor(count if denominator is None else denominator)
    # Without a supervised token the loss is 0 and still carries a gradient (of 0), as trainers expect.
    loss = loss_T.sum() / torch.where(divisor > 0, divisor, 1.0)
    return WeightedLoss(loss, nll_T.sum().detach(), kl_T.sum().detach(), count, weight_sum)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
