"""The weighted loss with the LM head inside: the [T, V] logits never exist, only a chunk of them at a time.

What `vcrd.losses.weighted_loss` computes on whole logits, this computes chunk by chunk: apply the head, take the
softmax statistics in float32, turn the chunk's logits into their gradient in place (weights included), and add it into
the gradients of hidden states and head at once.

Axis letters: T predictions, C predictions of a chunk, H width, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
_CHUNK_ELEMENTS = 2**25
_TINY = 1e-38


class _Teacher(NamedTuple):
    """The teacher's candidates: ids are 0 and probabilities 0 where there is none."""

    ids_TK: Tensor
    logprobs_TK: Tensor
    kept_TK: Tensor
    tail_logprob_T: Tensor

    def rows(self, index: Tensor) -> _Teacher:
        return _Teacher(*(part[index] for part in self))


def fused_weighted_loss(
    hidden_TH: Tensor,
    lm_head_VH: Tensor,
    labels_T: Tensor,
    token_weights_T: Tensor,
    *,
    teacher_topk_ids_TK: Tensor | None = None,
    teacher_topk_logprobs_TK: Tensor | None = None,
    teacher_tail_logprob_T: Tensor | None = None,
    kl_coef: float = 0.0,
    denominator: Tensor | float | None = None,
    vocab_size: int | None = None,
    chunk_size: int | str = "auto",
    bias_V: Tensor | None = None,
) -> Tensor:
    """Return sum_t w_t [(1 - kl_coef) NLL_t + kl_coef KL_t] / denominator, a scalar that carries the gradient.

    Row t of every argument is one prediction: the caller has shifted. Rows with label -100 or weight 0 cost nothing. A
    row without a kept candidate has plain NLL at full weight.

    Args:
        hidden_TH: Last hidden states, [T, H].
        lm_head_VH: Weight of the head, [V, H]; its gradient is accumulated in float32.
        labels_T: Ids below `vocab_size`, -100 where nothing is learned, [T].
        token_weights_T: At least 0, [T].
        teacher_topk_ids_TK: Distinct ids, -1 where there is no candidate, [T, K].
        teacher_topk_logprobs_TK: -inf where there is no candidate, [T, K].
        teacher_tail_logprob_T: Log of the rest of the mass, [T]; None computes it as log(-expm1(logsumexp(top-k))).
        kl_coef: In [0, 1].
        denominator: None counts the labels that are not -100.
        vocab_size: Rows of the head from here on are padding; None for none.
        chunk_size: Predictions per chunk; "auto" keeps a chunk's logits at about 128 MiB.
        bias_V: Of the head, [V].

    Raises:
        ValueError: The arguments do not belong together.
    """
    vocabulary = vocab_size or lm_head_VH.shape[0]
    _check(hidden_TH, lm_head_VH, labels_T, token_weights_T, vocabulary)
    supervised_T = labels_T != IGNORED
    active = (supervised_T & (token_weights_T > 0)).nonzero().squeeze(-1)
    divisor = supervised_T.sum() if denominator is None else denominator
    scale = 1.0 / torch.as_tensor(divisor, device=hidden_TH.device, dtype=torch.float32).clamp_min(1e-12)
    teacher = None
    if kl_coef > 0 and teacher_topk_ids_TK is not None:
        if teacher_topk_logprobs_TK is None:
            raise ValueError("teacher_topk_ids needs teacher_topk_logprobs beside it")
        tail = None if teacher_tail_logprob_T is None else teacher_tail_logprob_T[active]
        teacher = _teacher(teacher_topk_ids_TK[active], teacher_topk_logprobs_TK[active], tail, vocabulary)
    if chunk_size == "auto":
        chunk_size = max(_CHUNK_ELEMENTS // lm_head_VH.shape[0], 16)
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f'chunk_size must be "auto" or at least 1, got {chunk_size!r}')
    weights = token_weights_T[active].float() * scale
    loss: Tensor = _Fused.apply(  # type: ignore[no-untyped-call]
        hidden_TH, lm_head_VH, bias_V, active, labels_T[active], weights, teacher, kl_coef, vocabulary, chunk_size
    )
    return loss


def _check(hidden_TH: Tensor, lm_head_VH: Tensor, labels_T: Tensor, weights_T: Tensor, vocabulary: int) -> None:
    rows = hidden_TH.shape[0]
    shapes = [list(item.shape) for item in (hidden_TH, lm_head_VH, labels_T, weights_T)]
    if labels_T.shape != (rows,) or weights_T.shape != (rows,) or hidden_TH.shape[1:] != lm_head_VH.shape[1:]:
        raise ValueError(f"expected [T, H], [V, H], [T], [T]; got {', '.join(map(str, shapes))}")
    if not 0 < vocabulary <= lm_head_VH.shape[0]:
        raise ValueError(f"vocab_size must be in (0, {lm_head_VH.shape[0]}], got {vocabulary}")
    highest = int(labels_T.max()) if rows else 0
    if highest >= vocabulary:
        raise ValueError(f"a label is {highest}, the vocabulary has {vocabulary} ids")


def _teacher(ids_TK: Tensor, logprobs_TK: Tensor, tail_T: Tensor | None, vocabulary: int) -> _Teacher:
    kept = (ids_TK >= 0) & torch.isfinite(logprobs_TK)
    if ids_TK.numel() and int(ids_TK.max()) >= vocabulary:
        raise ValueError(f"a teacher id is {int(ids_TK.max())}, the vocabulary has {vocabulary} ids")
    unique = torch.where(kept, ids_TK, -1 - torch.arange(ids_TK.shape[-1], device=ids_TK.device)).sort(-1).values
    if bool((unique[:, 1:] == unique[:, :-1]).any()):
        raise ValueError("a teacher id occurs twice in a row")
    logprobs = torch.where(kept, logprobs_TK, float("-inf")).float()
    if tail_T is None:
        mass = logprobs.logsumexp(-1).clamp_max(-1e-7)
        tail_T = torch.log(-torch.expm1(mass))
    return _Teacher(torch.where(kept, ids_TK, 0).long(), logprobs, kept, tail_T.float())


class _Fused(torch.autograd.Function):
    """Forms the gradients in the forward pass, where each chunk's logits are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TH: Tensor,
        lm_head_VH: Tensor,
        bias_V: Tensor | None,
        active: Tensor,
        labels: Tensor,
        weights: Tensor,
        teacher: _Teacher | None,
        kl_coef: float,
        vocabulary: int,
        chunk_size: int,
    ) -> Tensor:
        wants_hidden, wants_head, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden_TH) if wants_hidden else None
        grad_head = torch.zeros_like(lm_head_VH, dtype=torch.float32) if wants_head else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if wants_bias and bias_V is not None else None
        total = torch.zeros((), device=hidden_TH.device, dtype=torch.float32)
        for start in range(0, len(active), chunk_size):
            rows = torch.arange(start, min(start + chunk_size, len(active)), device=active.device)
            hidden_CH = hidden_TH[active[rows]]
            logits_CV = (hidden_CH @ lm_head_VH.T).float()
            if bias_V is not None:
                logits_CV += bias_V
            logits_CV[:, vocabulary:] = float("-inf")
            mine = None if teacher is None else teacher.rows(rows)
            losses_C = _logits_to_gradient(logits_CV, labels[rows], mine, kl_coef)
            total += (weights[rows] * losses_C).sum()
            gradient_CV = logits_CV.mul_(weights[rows].unsqueeze(-1))
            if grad_bias is not None:
                grad_bias += gradient_CV.sum(0)
            gradient_CV = gradient_CV.to(lm_head_VH.dtype)
            if grad_hidden is not None:
                grad_hidden[active[rows]] = gradient_CV @ lm_head_VH
            if grad_head is not None and grad_head.dtype == gradient_CV.dtype:
                grad_head.addmm_(gradient_CV.T, hidden_CH)
            elif grad_head is not None:
                grad_head += gradient_CV.T @ hidden_CH
        ctx.grads = (grad_hidden, grad_head, grad_bias)
        ctx.dtypes = (hidden_TH.dtype, lm_head_VH.dtype, None if bias_V is None else bias_V.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad_output,) = grad_outputs
        grads = [
            None if grad is None else (grad.mul_(grad_output)).to(dtype)
            for grad, dtype in zip(ctx.grads, ctx.dtypes, strict=True)
        ]
        ctx.grads = None
        return (*grads, None, None, None, None, None, None, None)


def _logits_to_gradient(logits_CV: Tensor, labels_C: Tensor, teacher: _Teacher | None, kl_coef: float) -> Tensor:
    """Turn logits into the gradient of each row's unweighted loss, in place, and return the losses, [C]."""
    label_C1 = labels_C.unsqueeze(-1)
    total_C1 = logits_CV.logsumexp(-1, keepdim=True)
    nll_C = (total_C1 - logits_CV.gather(-1, label_C1)).squeeze(-1)
    if teacher is None:
        logits_CV.sub_(total_C1).exp_()
        logits_CV.scatter_add_(-1, label_C1, torch.full_like(nll_C, -1.0).unsqueeze(-1))
        return nll_C
    student_CK = logits_CV.gather(-1, teacher.ids_TK) - total_C1
    q_CV = logits_CV.sub_(total_C1).exp_()
    q_CK = torch.where(teacher.kept_TK, q_CV.gather(-1, teacher.ids_TK), 0.0)
    # What is left once the candidates are out is summed as it stands: 1 minus their sum would lose a small tail.
    q_CV.scatter_add_(-1, teacher.ids_TK, -q_CK)
    q_tail_C = q_CV.sum(-1).clamp_min(_TINY)
    p_CK = teacher.logprobs_TK.exp()
    p_tail_C = teacher.tail_logprob_T.exp()
    head_C = torch.where(teacher.kept_TK, p_CK * (teacher.logprobs_TK - student_CK), 0.0).sum(-1)
    tail_C = torch.where(p_tail_C > 0, p_tail_C * (teacher.tail_logprob_T - q_tail_C.log()), 0.0)
    signal_C = teacher.kept_TK.any(-1)
    share_C = torch.where(signal_C, kl_coef, 0.0)
    q_CV.mul_((1 - share_C * p_tail_C / q_tail_C).unsqueeze(-1))
    q_CV.scatter_add_(-1, teacher.ids_TK, torch.where(teacher.kept_TK, q_CK - share_C.unsqueeze(-1) * p_CK, 0.0))
    q_CV.scatter_add_(-1, label_C1, (share_C - 1).unsqueeze(-1))
    return (1 - share_C) * nll_C + share_C * (head_C + tail_C)
