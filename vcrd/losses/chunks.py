"""The fused loss, a chunk at a time, as one autograd function.

Axis letters: T predictions, C predictions of a chunk, H width, V vocabulary, S slots of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vcrd.losses.classes import Classes, Slots, classes, gradients, kl, nll, slots
from vcrd.losses.products import Products
from vcrd.losses.signal import Teacher

# Each chunk reads the head twice, and reads and writes its float32 gradient, so small chunks cost time: on 2 cores the
# products of chunks of 400 rows are as fast as those of whole logits to about 5 %.
_LOGITS = 2**26
_LOGITS_ON_GPU = 2**28


@dataclass(frozen=True)
class Batch:
    """The predictions that teach, beside the model's tensors.

    Attributes:
        rows: Their rows in the hidden states.
        labels: Their labels.
        weights: Their weights, above 0.
        divisor: Scalar that the loss is divided by.
        teacher: Their teacher.
        kl_coef: In [0, 1].
        vocabulary: Rows of the head that are not padding.
        chunk_size: Predictions per chunk.
        with_gradients: Form the gradients of what requires one.
    """

    rows: Tensor
    labels: Tensor
    weights: Tensor
    divisor: Tensor
    teacher: Teacher
    kl_coef: float
    vocabulary: int
    chunk_size: int
    with_gradients: bool


def rows_per_chunk(chunk_size: int | str, rows: int, vocabulary: int, device: torch.device) -> int:
    """Return a chunk's number of predictions; "auto" makes the fewest chunks that fit, of equal size."""
    if chunk_size == "auto":
        most = max((_LOGITS_ON_GPU if device.type == "cuda" else _LOGITS) // vocabulary, 16)
        return max(-(-rows // max(-(-rows // most), 1)), 1)
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f'chunk_size must be "auto" or a number of at least 1, got {chunk_size!r}')
    return max(min(chunk_size, rows), 1)


class ChunkedLoss(torch.autograd.Function):
    """Returns the loss and, detached, the sums of `_Pass.sums`; forms the gradients while the logits are at hand."""

    @staticmethod
    def forward(ctx: Any, hidden_TH: Tensor, lm_head_VH: Tensor, bias_V: Tensor | None, batch: Batch) -> Any:
        """Run all chunks; keep the gradients, not the inputs."""
        wanted = [needed and batch.with_gradients for needed in ctx.needs_input_grad[:3]]
        products = Products(hidden_TH, lm_head_VH[: batch.vocabulary])
        # The products choose their dtype themselves, and autocast would choose another.
        with torch.autocast(hidden_TH.device.type, enabled=False):
            done = _Pass(hidden_TH, lm_head_VH, bias_V, batch, wanted, products)
        ctx.gradients = done.gradients
        ctx.dtypes = [None if each is None else each.dtype for each in (hidden_TH, lm_head_VH, bias_V)]
        ctx.mark_non_differentiable(done.sums)
        return (done.total / batch.divisor).to(products.result), done.sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        """Scale the gradients and let go of them."""
        if ctx.gradients is None:
            raise RuntimeError(
                "a second backward through one fused_weighted_loss: its gradients are handed out once; add up "
                "the losses and go backward through the sum, or call it again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            None if each is None else _scale(each, grad_outputs[0]).to(dtype)
            for each, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        # Autograd takes over a gradient that nothing else holds; another it would copy.
        gradients.clear()
        return (*scaled, None)


def _scale(gradient: Tensor, factor: Tensor) -> Tensor:
    # A pass over [V, H] is worth asking for on a CPU; on a GPU the question would wait for all that is queued.
    if factor.device.type == "cpu" and factor.item() == 1:
        return gradient
    return gradient.mul_(factor)


class _Pass:
    """One pass over all chunks.

    Attributes:
        total: Sum of w_t times the loss of t.
        sums: Sums of w_t times NLL, KL, 1, teacher's mass and student's mass on the candidates; all but the first over
            rows with a candidate.
        gradients: Of hidden states, head and bias; None where not wanted.
    """

    def __init__(
        self,
        hidden_TH: Tensor,
        lm_head_VH: Tensor,
        bias_V: Tensor | None,
        batch: Batch,
        wanted: list[bool],
        products: Products,
    ) -> None:
        self._batch, self._hidden_TH, self._products = batch, hidden_TH, products
        self._bias_V = None if bias_V is None else bias_V[: batch.vocabulary]
        result = products.result
        self.gradients = [
            torch.zeros_like(each, dtype=result, memory_format=torch.contiguous_format)
            if each is not None and is_wanted
            else None
            for each, is_wanted in zip((hidden_TH, lm_head_VH, bias_V), wanted, strict=True)
        ]
        self.total = batch.weights.new_zeros(())
        self.sums = batch.weights.new_zeros(5)
        buffer_CV = hidden_TH.new_empty((batch.chunk_size, batch.vocabulary), dtype=result)
        for start in range(0, len(batch.rows), batch.chunk_size):
            stop = min(start + batch.chunk_size, len(batch.rows))
            self._chunk(slice(start, stop), buffer_CV[: stop - start])

    def _chunk(self, which: slice, logits_CV: Tensor) -> None:
        batch, rows = self._batch, self._batch.rows[which]
        hidden_CH = self._hidden_TH[rows].to(self._products.inputs)
        self._products.logits(hidden_CH, logits_CV)
        if self._bias_V is not None:
            logits_CV += self._bias_V
        places = slots(batch.labels[which], batch.teacher.rows(which))
        slots_CS = logits_CV.gather(-1, places.ids_CS).to(batch.weights.dtype)
        exp_CV, sum_C, rest_C = _exponentials(logits_CV, places.ids_CS, batch.weights.dtype)
        student = classes(slots_CS, rest_C, places, batch.kl_coef)
        self._add_up(student, places, batch.weights[which])
        if any(each is not None for each in self.gradients):
            scale_C = batch.weights[which] / batch.divisor
            slots_CS, others_C = gradients(student, places)
            others_C = torch.where(sum_C > 0, others_C * scale_C / sum_C, 0.0)
            gradient_CV = exp_CV.mul_(others_C.to(exp_CV.dtype).unsqueeze(-1))
            slots_CS = (slots_CS * scale_C.unsqueeze(-1)).to(exp_CV.dtype)
            self._spread(gradient_CV.scatter_add_(-1, places.ids_CS, slots_CS), hidden_CH, rows)

    def _add_up(self, student: Classes, places: Slots, weights_C: Tensor) -> None:
        nll_C, kl_C, share_C = nll(student, places), kl(student, places), student.kl_share_C
        self.total += (weights_C * ((1 - share_C) * nll_C + share_C * kl_C)).sum()
        signal_C = (share_C > 0).to(weights_C.dtype)
        overlap_C = signal_C * (1 - student.tail_C.exp())
        per_row_XC = torch.stack([nll_C, kl_C, signal_C, student.teacher_mass_C, overlap_C])
        self.sums += per_row_XC @ weights_C

    def _spread(self, gradient_CV: Tensor, hidden_CH: Tensor, rows: Tensor) -> None:
        hidden_TH, head_VH, bias_V = self.gradients
        vocabulary = self._batch.vocabulary
        if hidden_TH is not None:
            hidden_TH[rows] = self._products.hidden_gradient(gradient_CV)
        if head_VH is not None:
            self._products.add_head_gradient(head_VH[:vocabulary], gradient_CV, hidden_CH)
        if bias_V is not None:
            bias_V[:vocabulary] += gradient_CV.sum(0)


def _exponentials(logits_CV: Tensor, without_CS: Tensor, exact: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of all ids but some, exp(logit - highest) in place, its sum, and the log-sum-exp.

    The highest of *these* ids is taken off, so that their sum is at least 1 however small a part of the whole they are.
    """
    logits_CV.scatter_(-1, without_CS, float("-inf"))
    highest_C1 = logits_CV.amax(-1, keepdim=True)
    highest_C1.masked_fill_(highest_C1 == float("-inf"), 0.0)
    exp_CV = logits_CV.sub_(highest_C1).exp_()
    sum_C = exp_CV.sum(-1).to(exact)
    return exp_CV, sum_C, highest_C1.squeeze(-1).to(exact) + sum_C.log()
