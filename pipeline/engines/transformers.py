"""The embedded engine: transformers models on CPU or GPU, batches formed by length and id, no server.

Axis letters: B sequences, T tokens, V vocabulary, K kept candidates, P read positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from pipeline.engines.base import EngineParams, Limits, ModelRef, Progress, Task, refuse_head, silent
from pipeline.engines.heads import load_classifier
from pipeline.engines.sampling import choose, top_candidates, uniforms
from vcrd.errors import ConfigError
from vcrd.requests import (
    Classification,
    ClassifyRequest,
    Failure,
    FloatArray,
    GenerateRequest,
    Generation,
    ScoreRequest,
    Scores,
    TokenHead,
    TopLogprobs,
)

Request = TypeVar("Request", GenerateRequest, ScoreRequest, ClassifyRequest)

logging.disable_progress_bar()  # of loading weights; the stage shows its own

_TAIL_TOKENS = 16
_MASKED = float("-inf")


class TransformersEngine:
    """One model on one device."""

    def __init__(self, params: EngineParams, model: ModelRef, task: Task, head: TokenHead) -> None:
        """Load the model and its tokenizer; no remote code runs."""
        torch.set_num_threads(params.threads)
        wants_gpu = params.device == "cuda" or (params.device == "auto" and torch.cuda.is_available())
        if wants_gpu and not torch.cuda.is_available():
            raise ConfigError("engine.device is cuda, but torch sees no GPU; set it to auto or cpu")
        self._device = torch.device("cuda" if wants_gpu else "cpu")
        dtype = getattr(torch, params.dtype)
        try:
            config = AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=False)
            refuse_head(head, config, model.path)
            self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision)
            if task == "classify":
                loaded = load_classifier(model, config, head, dtype)
            else:
                loaded = AutoModelForCausalLM.from_pretrained(model.path, revision=model.revision, dtype=dtype)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise ConfigError(f"model {model.path!r} cannot be loaded: {first}") from error
        self._model: Any = loaded.eval().to(self._device)
        self._batch_size = params.batch_size
        # A head is often padded beyond the tokenizer; those ids mean nothing and are never drawn.
        self._vocabulary = min(len(self.tokenizer), config.vocab_size)
        self._limits = Limits(config.vocab_size, params.max_model_len or config.max_position_embeddings)
        self._eos = _eos_ids(self._model, self.tokenizer)

    def close(self) -> None:
        """Free the model."""
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = silent) -> list[Generation | Failure]:
        """Continue prompts; see `vcrd.requests`."""
        refuse = self._limits.refuse_generate
        return self._answer(requests, refuse, lambda item: len(item.prompt_ids), self._generate_batch, progress)

    def score(self, requests: Sequence[ScoreRequest], progress: Progress = silent) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens; see `vcrd.requests`."""
        refuse = self._limits.refuse_score
        return self._answer(requests, refuse, lambda item: len(item.token_ids), self._score_batch, progress)

    def classify(
        self, requests: Sequence[ClassifyRequest], progress: Progress = silent
    ) -> list[Classification | Failure]:
        """Give class probabilities at given tokens; see `vcrd.requests`."""
        refuse = self._limits.refuse_classify
        return self._answer(requests, refuse, lambda item: len(item.token_ids), self._classify_batch, progress)

    @torch.inference_mode()
    def _answer(
        self,
        requests: Sequence[Request],
        refuse: Callable[[Request], Failure | None],
        length: Callable[[Request], int],
        run: Callable[[list[Request]], Sequence[Any]],
        progress: Progress,
    ) -> list[Any]:
        """Run the answerable requests in batches that only their lengths and ids decide."""
        answers: dict[int, Any] = {}
        ready = []
        for index, request in enumerate(requests):
            failure = refuse(request)
            if failure is None:
                ready.append(index)
            else:
                answers[index] = failure
        ready.sort(key=lambda index: (length(requests[index]), requests[index].id))
        for start in range(0, len(ready), self._batch_size):
            batch = ready[start : start + self._batch_size]
            made = run([requests[index] for index in batch])
            answers.update(zip(batch, made, strict=True))
            progress(sum(_tokens(answer) for answer in made))
        return [answers[index] for index in range(len(requests))]

    def _padded(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(row) for row in rows)
        ids_BT = np.zeros((len(rows), width), np.int64)
        mask_BT = np.zeros((len(rows), width), np.int64)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids_BT[index, place] = row
            mask_BT[index, place] = 1
        return torch.from_numpy(ids_BT).to(self._device), torch.from_numpy(mask_BT).to(self._device)

    def _logprobs(self, logits_BV: torch.Tensor) -> torch.Tensor:
        logits_BV = logits_BV.float()
        logits_BV[..., self._vocabulary :] = _MASKED
        return logits_BV.log_softmax(-1)

    def _generate_batch(self, requests: list[GenerateRequest]) -> list[Generation | Failure]:
        batch = _Decoding(requests, self._eos, self.tokenizer, self._device)
        ids_BT, mask_BT = self._padded([request.prompt_ids for request in requests], left=True)
        cache = DynamicCache()
        while batch.alive:
            positions_BT = (mask_BT.cumsum(-1) - 1).clamp_min(0)[:, -ids_BT.shape[1] :]
            output = self._model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            chosen_B, keep = batch.step(self._logprobs(output.logits[:, -1]))
            if keep is not None:
                cache.batch_select_indices(keep)
                chosen_B, mask_BT = chosen_B[keep], mask_BT[keep]
            ids_BT = chosen_B.unsqueeze(-1)
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], -1)
        return batch.answers()

    def _score_batch(self, requests: list[ScoreRequest]) -> list[Scores | Failure]:
        ids_BT, mask_BT = self._padded([request.token_ids for request in requests], left=False)
        hidden = self._model.base_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return [self._read_scores(request, hidden[row]) for row, request in enumerate(requests)]

    def _read_scores(self, request: ScoreRequest, hidden_TH: torch.Tensor) -> Scores | Failure:
        """Apply the head to one row's wanted positions only; a batch of [T, V] logits would be the peak of memory."""
        targets = torch.tensor(list(request.token_ids[request.start :]), device=self._device)
        logprobs_TV = self._logprobs(
            self._model.get_output_embeddings()(hidden_TH[request.start - 1 : len(request.token_ids) - 1])
        )
        if bool(logprobs_TV.isnan().any()):
            return _not_finite(request.id)
        chosen_T = logprobs_TV.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        top = None
        if request.top_k_logprobs:
            top = _as_top(*top_candidates(logprobs_TV, request.top_k_logprobs))
        return Scores(id=request.id, logprobs=_floats(chosen_T), top=top)

    def _classify_batch(self, requests: list[ClassifyRequest]) -> list[Classification | Failure]:
        ids_BT, mask_BT = self._padded([request.token_ids for request in requests], left=False)
        logits_BTC = self._model(ids_BT, mask_BT)
        answers: list[Classification | Failure] = []
        for row, request in enumerate(requests):
            logits_PC = logits_BTC[row, list(request.read_positions)]
            probabilities_PC = logits_PC.softmax(-1) if logits_PC.shape[-1] > 1 else logits_PC.sigmoid()
            finite = bool(probabilities_PC.isfinite().all())
            answer = Classification(id=request.id, probabilities=_floats(probabilities_PC))
            answers.append(answer if finite else _not_finite(request.id))
        return answers


class _Decoding:
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
        return [self._answer(row) for row in range(len(self._requests))]

    def _answer(self, row: int) -> Generation | Failure:
        request = self._requests[row]
        if self._reasons[row] == "not_finite":
            return _not_finite(request.id)
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


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(model, "generation_config", None)
    ids = [tokenizer.eos_token_id, *_as_list(getattr(configured, "eos_token_id", None))]
    return frozenset(item for item in ids if item is not None)


def _as_list(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


def _tokens(answer: Any) -> int:
    if isinstance(answer, Generation):
        return len(answer.token_ids)
    return len(answer.logprobs) if isinstance(answer, Scores) else 1


def _floats(values: torch.Tensor) -> FloatArray:
    return np.asarray(values.cpu().numpy(), np.float32)


def _as_top(ids: torch.Tensor, logprobs: torch.Tensor, tail: torch.Tensor) -> TopLogprobs:
    return TopLogprobs(ids.cpu().numpy().astype(np.int32), _floats(logprobs), _floats(tail))


def _not_finite(name: str) -> Failure:
    return Failure(id=name, reason="not_finite", message="the model's output is not a number")
