"""Bad requests among good ones, and bad texts among good ones: what a model or a verifier makes of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.faults.demo import MODELS, Demo, demo_rows
from pipeline.engines import EngineParams, load_engine
from vcrd.errors import SchemaError
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, derive_seed

STUDENT = MODELS / "student"
_LOGPROB = 1e-4
BAD_REQUESTS = 6
_UNUSED = (27, 28)  # letters of more terms than the problems have
_COLUMNS = "problems.columns={prompt: prompt, reference: reference, split: null, responses: responses}"
_PER_PROBLEM = 2
_CHANGES = (_COLUMNS, f"rollouts.per_problem={_PER_PROBLEM}")
_HANG = "a:0\n\\boxed{9^{9^{9^{9^{9}}}}}"


@dataclass(frozen=True)
class BadText:
    """A problem whose prompt or response is bad.

    Attributes:
        name: Of the kind.
        row: Of the source.
        reason: With which its rollouts are rejected; None where they are kept.
    """

    name: str
    row: dict[str, Any]
    reason: str | None = None


def bad_texts() -> list[BadText]:
    """Return one of each kind."""
    return [
        BadText("a prompt of 100,000 characters", {"prompt": "a" * 100_000}, "too_long"),
        BadText("a prompt over the limit", {"prompt": "a=1+1;" * 100}, "too_long"),
        BadText("an empty response", {"prompt": "p1", "responses": [""]}, "no_step"),
        BadText("blanks for a response", {"prompt": "p2", "responses": ["  \n \n"]}, "no_step"),
        BadText("a verifier that hangs", {"prompt": "p3", "reference": "1", "responses": [_HANG]}),
        BadText("null bytes", {"prompt": "p4\x00", "responses": ["a\x00:1\nb\x00"]}),
        BadText("an injected template", {"prompt": "{prompt}{0}{{7*7}}", "responses": ["{a}:1\n{{7*7}} ${b} %s"]}),
        BadText("tags in the text", {"prompt": "<eos><pad>", "responses": ["a:1<eos>\n<|im_end|>\n</think>"]}),
        BadText("a response of 100,000 characters", {"prompt": "p5", "responses": ["a:1\n" * 25_000]}),
    ]


def poisoned_texts(folder: Path, count: int) -> list[str]:
    """Let the student's stage read good problems with bad ones among them; returns what was wrong."""
    good, bad = demo_rows(count), bad_texts()
    clean = Demo(folder / "clean", good, *_CHANGES).prepare()
    clean.make("generate_rollouts")
    demo = Demo(folder / "poisoned", [*good[: count // 2], *(item.row for item in bad), *good[count // 2 :]], *_CHANGES)
    manifest = demo.prepare().make("generate_rollouts")
    wanted: Counter[str] = Counter()
    for item in bad:
        if item.reason:
            wanted[item.reason] += len(item.row.get("responses", [None] * _PER_PROBLEM))
    faults = [] if manifest.rejects == dict(wanted) else [f"rejects {manifest.rejects} instead of {dict(wanted)}"]
    rows = {row["rollout_id"]: row for row in demo.rows("rollouts")}
    expected = {row["rollout_id"]: row for row in clean.rows("rollouts")}
    faults += [f"{name} was changed" for name, row in expected.items() if not _same(row, rows.get(name))]
    kept = sum(len(item.row["responses"]) for item in bad if not item.reason)
    if len(rows) != len(expected) + kept:
        faults.append(f"{len(rows)} rollouts instead of {len(expected) + kept}")
    return faults


def _same(row: dict[str, Any], other: dict[str, Any] | None) -> bool:
    if other is None or {**row, "logprobs": None} != {**other, "logprobs": None}:
        return False
    return bool(np.abs(np.subtract(row["logprobs"], other["logprobs"])).max(initial=0.0) <= _LOGPROB)


def nothing_but_bad_texts(folder: Path) -> str | None:
    """Let the student's stage read what it must reject alone; says what was wrong with how it fails."""
    demo = Demo(folder / "bad", [item.row for item in bad_texts() if item.reason], *_CHANGES).prepare()
    try:
        demo.make("generate_rollouts")
    except SchemaError as error:
        wanted = "generate_rollouts rejected 6 of 6 rows (no_step 2, too_long 4); the limit is 50%"
        return None if wanted in str(error) else f"said: {error}"
    return "nothing but rejects was no error"


def poisoned_requests(folder: Path, count: int) -> list[str]:
    """Ask an engine for good and bad together, its weights for two tokens being no numbers; returns what was wrong."""
    broken, (nan, infinite) = folder / "broken", _UNUSED
    shutil.copytree(STUDENT, broken)
    model = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[nan] = float("nan")
        model.get_input_embeddings().weight[infinite] = float("-inf")
    model.save_pretrained(broken)
    return list(_requests_faults(broken, _requests(broken, count, {nan, infinite}), nan, infinite))


def _requests(model: Path, count: int, avoided: set[int]) -> list[GenerateRequest]:
    from vcrd.tokenization import load_tokenizer

    tokenizer, sampling = load_tokenizer(str(model), None), Sampling(max_tokens=32)
    prompts = [tokenizer.encode(row["prompt"] + "\n") for row in demo_rows(4 * count)]
    fitting = [ids for ids in prompts if not avoided & set(ids)][:count]
    return [
        GenerateRequest(id=f"good {index}", prompt_ids=ids, seed=derive_seed(1, str(index)), sampling=sampling)
        for index, ids in enumerate(fitting)
    ]


def _requests_faults(model: Path, good: Sequence[GenerateRequest], nan: int, infinite: int) -> Iterator[str]:
    params: EngineParams = Demo(model.parent / "params", demo_rows(1)).context.settings.get(EngineParams)
    engine = load_engine(replace(params, batch_size=7), str(model), None, "generate")
    ids = list(good[0].prompt_ids)
    bad = {
        "no token": ([], "empty_prompt"),
        "an id out of vocabulary": ([*ids, 10**6], "token_out_of_vocabulary"),
        "a negative id": ([-1, *ids], "token_out_of_vocabulary"),
        "too long": (ids * 100, "too_long"),
        "NaN log-probabilities": ([*ids, nan], "not_finite"),
        "infinite log-probabilities": ([infinite, *ids], "not_finite"),
    }
    asked = [replace(good[0], id=name, prompt_ids=prompt) for name, (prompt, _) in bad.items()]
    mixed = [*good[: len(good) // 2], *asked, *good[len(good) // 2 :]]
    answers = dict(zip((request.id for request in mixed), engine.generate(mixed), strict=True))
    alone = dict(zip((request.id for request in good), engine.generate(good), strict=True))
    for name, (_, reason) in bad.items():
        answer = answers[name]
        if not isinstance(answer, Failure) or answer.reason != reason:
            yield f"{name}: {str(answer)[:200]}"
    for name, expected in alone.items():
        answer = answers[name]
        if not isinstance(answer, Generation) or not isinstance(expected, Generation):
            yield f"{name} failed: {answer}"
        elif answer.token_ids != expected.token_ids or np.abs(answer.logprobs - expected.logprobs).max() > _LOGPROB:
            yield f"{name} was changed"
