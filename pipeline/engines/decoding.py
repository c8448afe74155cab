"""What a batch has generated so far, and the loop that goes on until every sequence has ended.

Axis letters: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.engines.base import not_finite
from pipeline.engines.sampling import choose, top_candidates, uniforms
from pipeline.engines.trunk import growing_cache
from vcrd.requests import Failure, GenerateRequest, Generation, TopLogprobs

_TAIL_TOKENS = 16


class Rows(Protocol):
    """Sequences that a model goes on with."""

    def select(self, keep: torch.Tensor) -> None:
        """Go on with these sequences only."""

    def advance(self, chosen_B: torch.Tensor) -> torch.Tensor:
        """Append a token to every sequence and return the next one's logits, [B, V]."""


class PaddedRows:
    """Sequences that share nothing: padded on the left, each with its own cache."""

    def __init__(self, model: Any, mask_BT: torch.Tensor) -> None:
        """Begin with no token seen; `mask_BT` is 0 on the padding of the prompts."""
        self._model = model
        self._mask_BT = mask_BT
        self._cache = growing_cache()

    def select(self, keep: torch.Tensor) -> None:
        """Go on with these sequences only."""
        self._cache.batch_select_indices(keep)
        self._mask_BT = self._mask_BT[keep]

    def advance(self, chosen_B: torch.Tensor) -> torch.Tensor:
        """Append a token to every sequence and return the next one's logits, [B, V]."""
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(chosen_B), 1)], -1)
        return self.read(chosen_B.unsqueeze(-1))

    def read(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Read tokens that the mask knows of, and return the next one's logits, [B, V]."""
        output = self._model(
            input_ids=ids_BT,
            attention_mask=self._mask_BT,
            position_ids=(self._mask_BT.cumsum(-1) - 1).clamp_min(0)[:, -ids_BT.shape[1] :],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV


def decode(
    batch: Decoding, logits_BV: torch.Tensor, rows: Rows, logprobs: Callable[[torch.Tensor], torch.Tensor]
) -> list[Generation | Failure]:
    """Choose tokens until every sequence has ended; `logits_BV` are the first one's."""
    while True:
        chosen_B, keep = batch.step(logprobs(logits_BV))
        if not batch.alive:
            return batch.answers()
        if keep is not None:
            rows.select(keep)
            chosen_B = chosen_B[keep]
        logits_BV = rows.advance(chosen_B)


class Decoding:
    """What a batch has generated so far, and which of its rows still go on."""

    def __init__(
        self, requests: Sequence[GenerateRequest], eos: frozenset[int], tokenizer: Any, device: torch.device
    ) -> None:
        self._requests = requests
        self._eos_ids = torch.tensor(sorted(eos), device=device)
        self._tokenizer = tokenizer
        self._uniforms = uniforms(requests).to(device)
        self._temperature = torch.tensor([[item.sampling.temperature] for item in requests], device=device)
        self._top_p = torch.tensor([[item.sampling.top_p] for item in requests], device=device)
        self._limits = np.array([item.sampling.max_tokens for item in requests])
        self._k = max(item.sampling.top_k_logprobs for item in requests)
        self._rows = np.arange(len(requests))
        self._length = 0
        self._ids: list[list[int]] = [[] for _ in requests]
        self._logprobs: list[list[float]] = [[] for _ in requests]
        self._tops: list[list[tuple[Any, Any, Any]]] = [[] for _ in requests]
        self._reasons = [""] * len(requests)

    @property
    def alive(self) -> bool:
        """Whether any row goes on."""
        return len(self._rows) > 0

    def step(self, logprobs_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Choose the next token of every live row; return them, and the rows to keep if some have ended."""
        rows = torch.from_numpy(self._rows).to(logprobs_BV.device)
        bad_B = logprobs_BV.isnan().any(-1)
        safe_BV = torch.where(bad_B.unsqueeze(-1), torch.zeros_like(logprobs_BV), logprobs_BV)
        chosen_B = choose(safe_BV, self._temperature[rows], self._top_p[rows], self._uniforms[rows, self._length])
        picked = safe_BV.gather(-1, chosen_B.unsqueeze(-1)).squeeze(-1).tolist()
        tops = [part.cpu().numpy() for part in top_candidates(safe_BV, self._k)] if self._k else None
        ended_B = torch.isin(chosen_B, self._eos_ids).tolist()
        self._length += 1
        keep = []
        for place, (row, token, logprob) in enumerate(zip(self._rows.tolist(), chosen_B.tolist(), picked, strict=True)):
            self._ids[row].append(token)
            self._logprobs[row].append(logprob)
            if tops is not None:
                self._tops[row].append((tops[0][place], tops[1][place], tops[2][place]))
            self._reasons[row] = self._reason(row, ended_B[place], bool(bad_B[place]))
            if not self._reasons[row]:
                keep.append(place)
        if len(keep) == len(self._rows):
            return chosen_B, None
        self._rows = self._rows[keep]
        return chosen_B, torch.tensor(keep, dtype=torch.long, device=logprobs_BV.device)

    def _reason(self, row: int, ended: bool, bad: bool) -> str:
        if bad:
            return "not_finite"
        if ended:
            return "eos"
        stops = self._requests[row].sampling.stop
        if stops:
            ids = self._ids[row]
            before = self._tokenizer.decode(ids[-_TAIL_TOKENS:])
            if any(stop in before for stop in stops):
                return "stop"
        return "length" if self._length >= self._limits[row] else ""

    def answers(self) -> list[Generation | Failure]:
        """Say what has become of every row."""
        return [self._answer(row) for row in range(len(self._requests))]

    def _answer(self, row: int) -> Generation | Failure:
        request = self._requests[row]
        if self._reasons[row] == "not_finite":
            return not_finite(request.id)
        k = request.sampling.top_k_logprobs
        top = None
        if k:
            ids, logprobs, tails = (np.stack(part) for part in zip(*self._tops[row], strict=True))
            if k < self._k:
                tails = np.logaddexp.reduce(np.concatenate([logprobs[:, k:], tails[:, None]], 1), axis=1)
            top = TopLogprobs(ids[:, :k].astype(np.int32), logprobs[:, :k].astype(np.float32), tails.astype(np.float32))
        return Generation(
            id=request.id,
            token_ids=self._ids[row],
            logprobs=np.array(self._logprobs[row], np.float32),
            finish_reason=self._reasons[row],
            top=top,
        )
