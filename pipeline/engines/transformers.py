"""The embedded engine: transformers models on CPU or GPU, shared prefixes computed once, no server.

Requests that share prefixes go through the model as trees; the rest in batches by length and id.

Axis letters: B sequences, T tokens, N tree tokens, V vocabulary, H hidden, K kept candidates, P read positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from pipeline.engines.base import (
    EngineParams,
    Limits,
    ModelRef,
    PrefillCount,
    Progress,
    Request,
    Task,
    ending_ids,
    not_finite,
    refuse_head,
    silent,
)
from pipeline.engines.decoding import Decoding, PaddedRows, decode
from pipeline.engines.heads import load_classifier
from pipeline.engines.probes import decodes_from_trunks, reads_trees
from pipeline.engines.sampling import top_candidates
from pipeline.engines.trees import Grove, plant, read_grove
from pipeline.engines.trunk import TrunkRows, trunk_of
from vcrd.errors import ConfigError
from vcrd.io.checkpoints import NO_CODE, ONLY_TENSORS, not_loaded
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

logging.disable_progress_bar()  # of loading weights; the stage shows its own

# Trees take memory like rows: 8192 tokens, less where fewer than 64 sequences are run together.
_GROVE_TOKENS, _TOKENS_A_SEQUENCE = 8192, 128
_MASKED = float("-inf")
_Answered = Iterator[tuple[list[int], list[Any]]]


@dataclass(frozen=True, slots=True)
class _Ways(Generic[Request]):
    """How one kind of request is refused, read and answered: row by row, or grove by grove."""

    refuse: Callable[[Request], Failure | None]
    ids: Callable[[Request], Sequence[int]]
    rows: Callable[[Sequence[Request]], Sequence[Any]]
    grove: Callable[[Grove, Sequence[Request]], _Answered]


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
            config = AutoConfig.from_pretrained(model.path, revision=model.revision, **NO_CODE)
            refuse_head(head, config, model.path)
            self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision, **NO_CODE)
            if task == "classify":
                loaded = load_classifier(model, config, head, dtype)
            else:
                loaded = AutoModelForCausalLM.from_pretrained(
                    model.path, revision=model.revision, dtype=dtype, **ONLY_TENSORS
                )
        except (OSError, ValueError) as error:
            raise not_loaded(model.path, error) from error
        self._model: Any = loaded.eval().to(self._device)
        self._batch_size = params.batch_size
        self._grove_tokens = min(_GROVE_TOKENS, _TOKENS_A_SEQUENCE * params.batch_size)
        # A head is often padded beyond the tokenizer; those ids mean nothing and are never drawn.
        self._vocabulary = min(len(self.tokenizer), config.vocab_size)
        self._limits = Limits(config.vocab_size, params.max_model_len or config.max_position_embeddings)
        self._eos = frozenset(ending_ids(getattr(self._model, "generation_config", None), self.tokenizer))
        self.prefilled = PrefillCount()
        self.tell_in_flight: Callable[[Collection[str]], None] = silent
        self._shares_prefixes = self._can_share(task)

    def close(self) -> None:
        """Free the model."""
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = silent) -> list[Generation | Failure]:
        """Continue prompts; see `vcrd.requests`."""
        ways = _Ways(self._limits.refuse_generate, _prompt, self._generate_rows, self._generate_grove)
        return self._answer(requests, ways, progress)

    @torch.inference_mode()
    def score(self, requests: Sequence[ScoreRequest], progress: Progress = silent) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens; see `vcrd.requests`."""
        ways = _Ways(self._limits.refuse_score, _given, self._score_rows, self._score_grove)
        return self._answer(requests, ways, progress)

    @torch.inference_mode()
    def classify(
        self, requests: Sequence[ClassifyRequest], progress: Progress = silent
    ) -> list[Classification | Failure]:
        """Give class probabilities at given tokens; see `vcrd.requests`."""
        ways = _Ways(self._limits.refuse_classify, _given, self._classify_rows, self._classify_grove)
        return self._answer(requests, ways, progress)

    @torch.inference_mode()
    def _can_share(self, task: Task) -> bool:
        if task == "classify":
            return reads_trees(self._model.backbone, self._model.head, lambda ids_BT: self._model(ids_BT, None))
        return reads_trees(
            self._model.base_model, self._model.get_output_embeddings(), lambda ids_BT: self._model(ids_BT).logits
        ) and decodes_from_trunks(self._model)

    def _answer(self, requests: Sequence[Request], ways: _Ways[Request], progress: Progress) -> list[Any]:
        """Run the answerable requests in trees and batches that only their ids and contents decide."""
        answers: dict[int, Any] = {place: ways.refuse(request) for place, request in enumerate(requests)}
        ready = [place for place, failure in answers.items() if failure is None]
        asked = [requests[place] for place in ready]
        rows, names = [ways.ids(request) for request in asked], [request.id for request in asked]
        groves, alone = (
            plant(rows, names, self._grove_tokens) if self._shares_prefixes else ([], list(range(len(asked))))
        )
        self.prefilled += PrefillCount(asked=sum(map(len, rows)))

        def record(members: Iterable[int], made: Sequence[Any]) -> None:
            answers.update(zip((ready[member] for member in members), made, strict=True))
            progress(sum(map(_tokens, made)))

        for grove in groves:
            self.prefilled += PrefillCount(computed=grove.size)
            self.tell_in_flight([names[member] for member, _, _ in grove.branches()])
            for members, made in ways.grove(grove, asked):
                good = {
                    member: answer
                    for member, answer in zip(members, made, strict=True)
                    if not isinstance(answer, Failure)
                }
                record(good, list(good.values()))
                # What is not a number has spread over the tree: these are asked again, each in a row of its own.
                alone += [member for member in members if member not in good]
        alone.sort(key=lambda member: (len(rows[member]), names[member]))
        for start in range(0, len(alone), self._batch_size):
            batch = alone[start : start + self._batch_size]
            self.prefilled += PrefillCount(computed=sum(len(rows[member]) for member in batch))
            self.tell_in_flight([names[member] for member in batch])
            record(batch, ways.rows([asked[member] for member in batch]))
        self.tell_in_flight(())
        return list(answers.values())

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

    def _generate_rows(self, requests: Sequence[GenerateRequest]) -> list[Generation | Failure]:
        ids_BT, mask_BT = self._padded([request.prompt_ids for request in requests], left=True)
        rows = PaddedRows(self._model, mask_BT)
        batch = Decoding(requests, self._eos, self.tokenizer, self._device)
        return decode(batch, rows.read(ids_BT), rows, self._logprobs)

    def _generate_grove(self, grove: Grove, requests: Sequence[GenerateRequest]) -> _Answered:
        """Read a grove once, and go on from it in even batches."""
        hidden_BNH, cache = read_grove(self._model.base_model, grove, self._device)
        branches = list(grove.branches())
        batches = -(-len(branches) // self._batch_size)
        cuts = [len(branches) * batch // batches for batch in range(batches + 1)]
        for start, end in pairwise(cuts):
            part = branches[start:end]
            last_BH = torch.stack([hidden_BNH[tree, int(path[-1])] for _, tree, path in part])
            position_B = torch.tensor([len(path) for _, _, path in part], device=self._device)
            rows = TrunkRows(self._model, trunk_of(cache, [(tree, path) for _, tree, path in part]), position_B)
            members = [member for member, _, _ in part]
            batch = Decoding([requests[member] for member in members], self._eos, self.tokenizer, self._device)
            yield members, decode(batch, self._model.get_output_embeddings()(last_BH), rows, self._logprobs)

    def _score_rows(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        ids_BT, mask_BT = self._padded([request.token_ids for request in requests], left=False)
        hidden_BTH = self._model.base_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return [self._read_scores(request, hidden_BTH[row]) for row, request in enumerate(requests)]

    def _score_grove(self, grove: Grove, requests: Sequence[ScoreRequest]) -> _Answered:
        hidden_BNH, _ = read_grove(self._model.base_model, grove, self._device)
        for member, tree, path in grove.branches():
            yield [member], [self._read_scores(requests[member], hidden_BNH[tree, torch.from_numpy(path)])]

    def _read_scores(self, request: ScoreRequest, hidden_TH: torch.Tensor) -> Scores | Failure:
        """Apply the head to one row's wanted positions only; a batch of [T, V] logits would be the peak of memory."""
        targets = torch.tensor(list(request.token_ids[request.start :]), device=self._device)
        logprobs_TV = self._logprobs(
            self._model.get_output_embeddings()(hidden_TH[request.start - 1 : len(request.token_ids) - 1])
        )
        if bool(logprobs_TV.isnan().any()):
            return not_finite(request.id)
        chosen_T = logprobs_TV.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        top = None
        if request.top_k_logprobs:
            top = _as_top(*top_candidates(logprobs_TV, request.top_k_logprobs))
        return Scores(id=request.id, logprobs=_floats(chosen_T), top=top)

    def _classify_rows(self, requests: Sequence[ClassifyRequest]) -> list[Classification | Failure]:
        ids_BT, mask_BT = self._padded([request.token_ids for request in requests], left=False)
        logits_BTC = self._model(ids_BT, mask_BT)
        return [
            _read_classes(request, logits_BTC[row, list(request.read_positions)])
            for row, request in enumerate(requests)
        ]

    def _classify_grove(self, grove: Grove, requests: Sequence[ClassifyRequest]) -> _Answered:
        hidden_BNH, _ = read_grove(self._model.backbone, grove, self._device)
        for member, tree, path in grove.branches():
            places = torch.from_numpy(path[list(requests[member].read_positions)])
            yield [member], [_read_classes(requests[member], self._model.head(hidden_BNH[tree, places]))]


def _prompt(request: GenerateRequest) -> Sequence[int]:
    return request.prompt_ids


def _given(request: ScoreRequest | ClassifyRequest) -> Sequence[int]:
    return request.token_ids


def _read_classes(request: ClassifyRequest, logits_PC: torch.Tensor) -> Classification | Failure:
    probabilities_PC = logits_PC.softmax(-1) if logits_PC.shape[-1] > 1 else logits_PC.sigmoid()
    if not bool(probabilities_PC.isfinite().all()):
        return not_finite(request.id)
    return Classification(id=request.id, probabilities=_floats(probabilities_PC))


def _tokens(answer: Any) -> int:
    if isinstance(answer, Generation):
        return len(answer.token_ids)
    return len(answer.logprobs) if isinstance(answer, Scores) else 1


def _floats(values: torch.Tensor) -> FloatArray:
    return np.asarray(values.cpu().numpy(), np.float32)


def _as_top(ids: torch.Tensor, logprobs: torch.Tensor, tail: torch.Tensor) -> TopLogprobs:
    return TopLogprobs(ids.cpu().numpy().astype(np.int32), _floats(logprobs), _floats(tail))
