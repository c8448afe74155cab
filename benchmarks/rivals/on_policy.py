"""The loop of methods that learn on the student's own, fresh rollouts: sample, let the teacher read, repeat.

Rollouts are drawn anew every `REFRESH` optimiser steps. Axis letters: B rollouts, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, get_scheduler

from benchmarks.rivals.base import Lesson
from vcrd.records import IGNORED, Problem
from vcrd.rollouts import RolloutParams
from vcrd.steps import cut_steps, unit_for
from vcrd.tokenization import decoder
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool
    from benchmarks.experiments.training import Schooling

REFRESH = 10
_SPARE = 1.2

Floats = NDArray[np.float64]
Weigh = Callable[[Sequence[Floats], Sequence[Sequence[int]]], list[Floats]]
"""(how far the log-probabilities of the two models lie apart on each rollout's tokens [T], where its steps end) ->
weights of its tokens [T]; all of them are scaled to mean 1."""


@dataclass(frozen=True, slots=True)
class Written:
    """A fresh rollout."""

    prompt_ids: list[int]
    token_ids: list[int]
    step_ends: list[int]


def on_policy(model: Any, tokenizer: Any, pool: Pool, schooling: Schooling, weigh: Weigh) -> tuple[int, int, int]:
    """Train by the reverse KL to the teacher; returns optimiser steps, supervised tokens and generated tokens."""
    from benchmarks.experiments.training import EqualSteps

    teacher = AutoModelForCausalLM.from_pretrained(pool.place.models / "teacher").eval()
    writer = _Writer(model, tokenizer, pool, schooling.seed)
    optimizer, schedule = _optimizer(model, schooling)
    collate = DataCollatorForWeightedLanguageModeling(tokenizer.pad_token_id, with_teacher=False)
    done = served = 0
    while done < schooling.steps:
        part = replace(schooling, steps=min(REFRESH, schooling.steps - done), seed=schooling.seed + done)
        written = writer.write(part.steps * part.step_tokens)
        steps = EqualSteps(_lesson(written, model, teacher, weigh, tokenizer.pad_token_id), part)
        for index in range(len(steps)):
            loss = _reverse_kl(model, teacher, collate([steps[index]])) / part.step_tokens
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), part.params.max_grad_norm)
            optimizer.step()
            schedule.step()
        done, served = done + part.steps, served + steps.served
    return done, served, writer.tokens


def _optimizer(model: Any, schooling: Schooling) -> tuple[Any, Any]:
    """Return what the weighted trainer has: AdamW and its schedule."""
    params = schooling.params
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    warmup = min(params.warmup_steps, schooling.steps // 4)
    return optimizer, get_scheduler(params.lr_scheduler, optimizer, warmup, schooling.steps)


class _Writer:
    """Samples rollouts of the train problems, each problem once before any is taken again."""

    def __init__(self, model: Any, tokenizer: Any, pool: Pool, seed: int) -> None:
        self._model, self._tokenizer, self._decode = model, tokenizer, decoder(tokenizer)
        self._params = pool.settings.get(RolloutParams)
        prompts = {item.problem_id: item.prompt_ids for item in pool.rollouts}
        self._problems = [(pool.problems[name], ids) for name, ids in sorted(prompts.items())]
        self._rng = np.random.default_rng(seed)
        self._waiting: list[int] = []
        self._length = np.mean([len(item.token_ids) for item in pool.rollouts])
        self.tokens = 0
        torch.manual_seed(seed)

    def write(self, tokens: int) -> list[Written]:
        """Sample at least so many tokens."""
        written: list[Written] = []
        while (missing := tokens - sum(len(item.token_ids) for item in written)) > 0:
            asked = self._draw(math.ceil(missing * _SPARE / self._length))
            made = self._sample(asked)
            written += [self._cut(problem, ids, new) for (problem, ids), new in zip(asked, made, strict=True)]
        self._length = np.mean([len(item.token_ids) for item in written])
        return written

    def _draw(self, count: int) -> list[tuple[Problem, list[int]]]:
        while len(self._waiting) < count:
            self._waiting += self._rng.permutation(len(self._problems)).tolist()
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        return [self._problems[index] for index in chosen]

    @torch.no_grad()
    def _sample(self, asked: Sequence[tuple[Problem, list[int]]]) -> list[list[int]]:
        width = max(len(ids) for _, ids in asked)
        pad, eos = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        ids_BT = torch.tensor([[pad] * (width - len(ids)) + ids for _, ids in asked])
        mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for _, ids in asked])
        self._model.eval()
        made_BT = self._model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            do_sample=True,
            temperature=self._params.temperature,
            top_p=self._params.top_p,
            top_k=0,
            max_new_tokens=self._params.max_tokens,
            pad_token_id=pad,
            eos_token_id=eos,
        )[:, width:]
        self._model.train()
        rows = [_until(row, eos) for row in made_BT.tolist()]
        self.tokens += sum(map(len, rows))
        return rows

    def _cut(self, problem: Problem, prompt_ids: list[int], token_ids: list[int]) -> Written:
        text, ended = self._decode(token_ids), token_ids[-1] == self._tokenizer.eos_token_id
        steps = cut_steps(token_ids, self._decode, ended=ended, unit=unit_for(problem.domain, text))
        return Written(prompt_ids, token_ids, steps.token_ends)


def _until(row: list[int], eos: int) -> list[int]:
    return row[: row.index(eos) + 1] if eos in row else row


@torch.no_grad()
def _lesson(written: Sequence[Written], model: Any, teacher: Any, weigh: Weigh, pad: int) -> Lesson:
    rows = []
    collate = DataCollatorForWeightedLanguageModeling(pad, with_teacher=False)
    for item in written:
        before = len(item.prompt_ids)
        ids = item.prompt_ids + item.token_ids
        labels = [IGNORED] * before + item.token_ids
        rows.append({"input_ids": ids, "labels": labels, "token_weights": [0.0] * before + [1.0] * len(item.token_ids)})
    batch = collate(rows)
    student_BT, teacher_BT = (_chosen(each, batch) for each in (model, teacher))
    apart = []
    for item, far_T in zip(written, (student_BT - teacher_BT).abs().numpy(), strict=True):
        first = len(item.prompt_ids) - 1
        apart.append(far_T[first : first + len(item.token_ids)])
    weights = weigh(apart, [item.step_ends for item in written])
    mean = float(np.concatenate(weights).mean())
    for row, item, mine in zip(rows, written, weights, strict=True):
        row["token_weights"] = [0.0] * len(item.prompt_ids) + (mine / mean).tolist()
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
    schema = schema.append(pa.field("token_weights", pa.list_(pa.float32())))
    return Lesson(pa.Table.from_pylist(rows, schema), np.arange(len(rows)))


def _chosen(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the log-probability [B, T - 1] of every token but the first, given those before it."""
    logprobs_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    chosen_BT: Tensor = logprobs_BTV[:, :-1].gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    return chosen_BT.double()


def _reverse_kl(model: Any, teacher: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the weighted sum over supervised tokens of KL(student || teacher), over the whole vocabulary."""
    given = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    taught_BT = batch["labels"][:, 1:] != IGNORED
    student_BTV = model(**given).logits[:, :-1].log_softmax(-1)
    with torch.no_grad():
        teacher_BTV = teacher(**given).logits[:, :-1].log_softmax(-1)
    kl_BT = (student_BTV.exp() * (student_BTV - teacher_BTV)).sum(-1)
    weighted_BT = kl_BT * batch["token_weights"][:, 1:]
    total: Tensor = weighted_BT[taught_BT].sum()
    return total
