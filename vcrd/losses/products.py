"""The LM head's three matrix products, a chunk of predictions at a time, with float32 results whatever goes in.

Axis letters: C predictions of a chunk, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 2**24


class Products:
    """Logits, gradient of hidden states and gradient of the head.

    On a CUDA device bfloat16 goes in as it is (also where autocast asks for it). Everything else is multiplied in
    float32 (float64 where an input is): blocks of the head are widened one after another.

    Attributes:
        result: dtype of all results: float32, or float64.
        inputs: dtype that goes into the products.
    """

    def __init__(self, hidden_TH: Tensor, lm_head_VH: Tensor) -> None:
        """Take the head without the rows of padding."""
        given = torch.promote_types(hidden_TH.dtype, lm_head_VH.dtype)
        kind = hidden_TH.device.type
        wanted = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else given
        self.result = torch.float64 if given == torch.float64 else torch.float32
        self.inputs = torch.bfloat16 if kind == "cuda" and wanted == torch.bfloat16 else self.result
        self._head_VH = lm_head_VH.detach()

    def logits(self, hidden_CH: Tensor, out_CV: Tensor) -> None:
        """Write hidden @ head.T."""
        for block in self._blocks():
            self._multiply(hidden_CH, self._head_VH[block].to(self.inputs).T, out_CV[:, block])

    def hidden_gradient(self, gradient_CV: Tensor) -> Tensor:
        """Return gradient @ head, [C, H]."""
        gradient_CV = gradient_CV.to(self.inputs)
        sums_CH = gradient_CV.new_zeros((len(gradient_CV), self._head_VH.shape[1]), dtype=self.result)
        for block in self._blocks():
            self._add(sums_CH, gradient_CV[:, block], self._head_VH[block].to(self.inputs))
        return sums_CH

    def add_head_gradient(self, sums_VH: Tensor, gradient_CV: Tensor, hidden_CH: Tensor) -> None:
        """Add gradient.T @ hidden to float32 sums: a chunk's part is never rounded to less."""
        self._add(sums_VH, gradient_CV.to(self.inputs).T, hidden_CH)

    def _blocks(self) -> Iterator[slice]:
        """Yield slices of the vocabulary: one, or as many as keep the float32 copy of a block at 64 MiB."""
        vocabulary, width = self._head_VH.shape
        step = vocabulary if self._head_VH.dtype == self.inputs else max(_BLOCK_ELEMENTS // width, 1)
        for start in range(0, vocabulary, step):
            yield slice(start, min(start + step, vocabulary))

    def _multiply(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        if self.inputs == self.result:
            torch.mm(left, right, out=out)
        else:
            torch.mm(left, right, out_dtype=self.result, out=out)

    def _add(self, sums: Tensor, left: Tensor, right: Tensor) -> None:
        if self.inputs == self.result:
            sums.addmm_(left, right)
        else:
            torch.addmm(sums, left, right, out_dtype=self.result, out=sums)
