"""The weighted loss with the LM head inside: the [T, V] logits never exist, only a chunk of them at a time.

What `weighted_loss` computes on whole logits, this computes chunk by chunk: apply the head, reduce each row to the
classes that its loss needs, turn the chunk's logits into their gradient in place (weights included), and add it into
the gradients of hidden states and head at once.

Axis letters: T predictions, H width, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from vcrd.losses.chunks import Batch, ChunkedLoss, rows_per_chunk
from vcrd.losses.signal import IGNORED, check_predictions, exact_dtype, no_teacher, read_teacher


class LossPieces(NamedTuple):
    """What a trainer logs: detached sums, so that pieces of micro-batches and ranks add up.

    Weights are those given, before the denominator. A prediction has a signal where it has a candidate of the teacher;
    with a kl_coef of 0 none has.

    Attributes:
        nll_sum: Sum of w_t NLL_t.
        kl_sum: Sum of w_t KL_t over predictions with a signal.
        n_supervised: Labels that are not -100.
        weight_sum: Sum of their weights.
        n_signal: Predictions with a signal among those with a weight above 0.
        signal_weight_sum: Sum of their weights.
        teacher_mass_sum: Sum of w_t times the teacher's mass on its candidates.
        overlap_sum: Sum of w_t times the student's mass on the teacher's candidates.
    """

    nll_sum: Tensor
    kl_sum: Tensor
    n_supervised: Tensor
    weight_sum: Tensor
    n_signal: Tensor
    signal_weight_sum: Tensor
    teacher_mass_sum: Tensor
    overlap_sum: Tensor


@overload
def fused_weighted_loss(
    hidden_TH: Tensor,
    lm_head_VH: Tensor,
    labels_T: Tensor,
    token_weights_T: Tensor,
    *,
    teacher_topk_ids_TK: Tensor | None = ...,
    teacher_topk_logprobs_TK: Tensor | None = ...,
    teacher_tail_logprob_T: Tensor | None = ...,
    kl_coef: float = ...,
    denominator: Tensor | float | None = ...,
    vocab_size: int | None = ...,
    chunk_size: int | Literal["auto"] = ...,
    bias_V: Tensor | None = ...,
    return_pieces: Literal[False] = ...,
) -> Tensor: ...


@overload
def fused_weighted_loss(
    hidden_TH: Tensor,
    lm_head_VH: Tensor,
    labels_T: Tensor,
    token_weights_T: Tensor,
    *,
    teacher_topk_ids_TK: Tensor | None = ...,
    teacher_topk_logprobs_TK: Tensor | None = ...,
    teacher_tail_logprob_T: Tensor | None = ...,
    kl_coef: float = ...,
    denominator: Tensor | float | None = ...,
    vocab_size: int | None = ...,
    chunk_size: int | Literal["auto"] = ...,
    bias_V: Tensor | None = ...,
    return_pieces: Literal[True],
) -> tuple[Tensor, LossPieces]: ...


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
    chunk_size: int | Literal["auto"] = "auto",
    bias_V: Tensor | None = None,
    return_pieces: bool = False,
) -> Tensor | tuple[Tensor, LossPieces]:
    """Return sum_t w_t [(1 - kl_coef) NLL_t + kl_coef KL_t] / denominator, a scalar that carries the gradient.

    Row t of every argument is one prediction: the caller has shifted. Rows with label -100 or weight 0 cost nothing. A
    row without a candidate has plain NLL at full weight. NLL and KL are those of `weighted_nll` and `weighted_kl`.

    The gradients are formed on the way, for the inputs that require them where gradients are enabled, and are handed
    out once: a second backward through the same loss raises.

    Args:
        hidden_TH: Last hidden states, [T, H].
        lm_head_VH: Weight of the head, [V, H]; its gradient is accumulated in float32.
        labels_T: Ids below `vocab_size`, -100 where nothing is learned, [T].
        token_weights_T: At least 0, [T].
        teacher_topk_ids_TK: Distinct ids, -1 where there is no candidate, [T, K].
        teacher_topk_logprobs_TK: -inf where there is no candidate, [T, K].
        teacher_tail_logprob_T: Log of the rest of the mass, [T]; None is `tail_logprob` of the candidates.
        kl_coef: In [0, 1]; at 0 the teacher is not looked at.
        denominator: None counts the labels that are not -100.
        vocab_size: Rows of the head from here on are padding, as if they were not there; None for none.
        chunk_size: Predictions per chunk; "auto" keeps a chunk's logits at 256 MiB (1 GiB on a GPU).
        bias_V: Of the head, [V].
        return_pieces: Return (loss, `LossPieces`); the pieces cost nothing more.

    Raises:
        ValueError: The arguments do not belong together, or hold what cannot be right.

    >>> hidden, head = torch.zeros(2, 3, requires_grad=True), torch.ones(4, 3)
    >>> fused_weighted_loss(hidden, head, torch.tensor([1, -100]), torch.tensor([2.0, 0.0])).item()  # 2 log 4
    2.7725887298583984
    """
    if not 0 <= kl_coef <= 1:
        raise ValueError(f"kl_coef must be in [0, 1], got {kl_coef}")
    vocabulary = lm_head_VH.shape[0] if vocab_size is None else vocab_size
    _check_shapes(hidden_TH, lm_head_VH, bias_V, vocabulary)
    exact = exact_dtype(hidden_TH.device)
    supervised_T = labels_T != IGNORED
    n_supervised = supervised_T.sum()
    divisor = n_supervised.clamp_min(1) if denominator is None else torch.as_tensor(denominator)
    divisor = divisor.detach().to(hidden_TH.device, exact)
    check_predictions(hidden_TH.shape[0], vocabulary, labels_T, token_weights_T, divisor)

    active_T = supervised_T & (token_weights_T > 0)
    signal = (teacher_topk_ids_TK, teacher_topk_logprobs_TK, teacher_tail_logprob_T)
    teacher = read_teacher(active_T, vocabulary, *signal) if kl_coef > 0 else None
    rows = active_T.nonzero().squeeze(-1)
    weights_T = token_weights_T.detach().to(exact)
    batch = Batch(
        rows=rows,
        labels=labels_T[rows],
        weights=weights_T[rows],
        # Nothing to learn divided by nothing is a loss of 0.
        divisor=torch.where(divisor > 0, divisor, 1.0),
        teacher=no_teacher(len(rows), hidden_TH.device) if teacher is None else teacher,
        kl_coef=kl_coef,
        vocabulary=vocabulary,
        chunk_size=rows_per_chunk(chunk_size, len(rows), vocabulary, hidden_TH.device),
        with_gradients=torch.is_grad_enabled(),
    )
    loss: Tensor
    loss, sums = ChunkedLoss.apply(hidden_TH, lm_head_VH, bias_V, batch)  # type: ignore[no-untyped-call]
    if not return_pieces:
        return loss
    nll_sum, kl_sum, signal_weight_sum, teacher_mass_sum, overlap_sum = sums.unbind()
    return loss, LossPieces(
        nll_sum=nll_sum,
        kl_sum=kl_sum,
        n_supervised=n_supervised,
        weight_sum=weights_T[supervised_T].sum(),
        n_signal=batch.teacher.candidate_TK.any(-1).sum(),
        signal_weight_sum=signal_weight_sum,
        teacher_mass_sum=teacher_mass_sum,
        overlap_sum=overlap_sum,
    )


def _check_shapes(hidden_TH: Tensor, lm_head_VH: Tensor, bias_V: Tensor | None, vocabulary: int) -> None:
    shapes = [list(each.shape) for each in (hidden_TH, lm_head_VH)]
    if hidden_TH.ndim != 2 or lm_head_VH.ndim != 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"hidden states and head must be [T, H] and [V, H]; got {shapes[0]} and {shapes[1]}")
    if not (hidden_TH.is_floating_point() and lm_head_VH.is_floating_point()):
        raise ValueError(f"hidden states and head must be floating point; got {hidden_TH.dtype}, {lm_head_VH.dtype}")
    if not 0 < vocabulary <= shapes[1][0]:
        raise ValueError(f"vocab_size must be in (0, {shapes[1][0]}], the rows of the head; got {vocabulary}")
    if bias_V is not None and bias_V.shape != (shapes[1][0],):
        raise ValueError(f"bias must be [{shapes[1][0]}], one per row of the head; got {list(bias_V.shape)}")
