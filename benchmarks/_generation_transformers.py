"""The embedded engine under shared prefixes, against itself with every prefix afresh: proposals and step scores.

Random weights and tokens; 24 steps of 48 tokens behind a prompt of 128.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tokenizers import Tokenizer, models
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

from benchmarks._qwen import small_qwen
from benchmarks.claims import claim, state
from pipeline.engines import EngineParams, load_engine
from vcrd.prefixes import PrefixParams
from vcrd.prm import score_requests
from vcrd.proposals import ProposalParams, teacher_requests
from vcrd.records import Problem, Rollout, StepProposal
from vcrd.requests import GenerateRequest

VOCABULARY, PROMPT, STEPS, STEP = 8192, 128, 24, 48
ROUNDS = 3
PARAMS = EngineParams(
    name="transformers",
    dtype="float32",
    device="cpu",
    threads=1,  # two would wait for each other where the machine is shared
    batch_size=8,  # so that batches by length, to be compared with, are padded little
    max_in_flight=64,
    max_model_len=None,
    gpu_memory_utilization=0.9,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)
PROPOSALS = ProposalParams(
    max_tokens=STEP,
    temperature=0.0,
    top_p=1.0,
    stop=[],
    top_k_logprobs=8,
    score_own_steps=False,
    prefixes=PrefixParams(max_per_rollout=None),
)


def claims() -> bool:
    """Print all claims."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = small_qwen(VOCABULARY, key_value_heads=2)
        classifier = AutoModelForTokenClassification.from_config(model.config)
        words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0"))
        for saved, path in ((model, folder), (classifier, folder / "prm")):
            saved.save_pretrained(path)
            PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(path)
        engine = load_engine(PARAMS, name, None, "generate")
        held = [_prefill_claim(engine), _score_claims(str(folder / "prm")), _proposal_claims(engine)]
    return all(held)


def _prefill_claim(engine: Any) -> bool:
    requests = teacher_requests(_rollouts(prompts=2, each=2), PROPOSALS, 0)
    read: list[int] = []
    # What goes through the model, padding included; a step of decoding reads one token of each sequence.
    embedding = engine._model.get_input_embeddings()
    hook = embedding.register_forward_hook(
        lambda module, ids, output: read.append(ids[0].numel() * (ids[0].shape[1] > 1))
    )
    before = engine.prefilled
    engine.generate(requests)
    hook.remove()
    counted = (engine.prefilled - before).computed
    if sum(read) != counted:
        raise AssertionError(f"the engine counts {counted} tokens, its model read {sum(read)}")
    ratio = counted / _unique(requests)
    title = (
        f"transformers engine, {len(requests)} prefixes of 4 rollouts of 2 problems: tokens prefilled / unique tokens"
    )
    return state(title, ratio, 1.0, "lower", n=1)


def _proposal_claims(engine: Any) -> bool:
    requests = teacher_requests(_rollouts(prompts=1, each=1), PROPOSALS, 0)
    ratios, pairs = _rounds(engine, lambda: engine.generate(requests))
    different = sum(
        one.token_ids != other.token_ids for ours, theirs in pairs for one, other in zip(ours, theirs, strict=True)
    )
    what = f"transformers engine, teacher's requests of {STEPS} steps of {STEP} tokens, prompt of {PROMPT}"
    faster = claim(f"{what}: shared prefixes, times as fast as every prefix afresh", ratios, 2.0, "higher")
    same = state(f"{what}: proposals of other tokens than afresh", different, 0, "lower", n=ROUNDS * len(requests))
    return faster and same


def _score_claims(path: str) -> bool:
    engine: Any = load_engine(PARAMS, path, None, "classify")
    (rollout,) = _rollouts(prompts=1, each=1)
    asked = score_requests(None, _problem(), rollout, _proposals(rollout))
    requests = [item.request for item in asked]
    ratios, pairs = _rounds(engine, lambda: engine.classify(requests))
    gap = max(
        float(np.abs(one.probabilities - other.probabilities).max())
        for ours, theirs in pairs
        for one, other in zip(ours, theirs, strict=True)
    )
    what = f"transformers engine, step scores of {STEPS} steps and {STEPS} proposals"
    faster = claim(f"{what}: one tree, times as fast as a row for each", ratios, 2.0, "higher")
    return state(f"{what}: largest difference of a probability", gap, 1e-5, "lower", n=ROUNDS) and faster


def _rounds(engine: Any, work: Callable[[], Any]) -> tuple[list[float], list[tuple[Any, Any]]]:
    """Do the work shared and afresh in turn: how many times as fast it was shared, and both answers."""
    ratios, pairs = [], []
    for _ in range(ROUNDS):
        shared, ours = _timed(work)
        with patch.object(engine, "_shares_prefixes", False):
            afresh, theirs = _timed(work)
        sys.stderr.write(f"{shared:.2f} s shared, {afresh:.2f} s afresh\n")
        ratios.append(afresh / shared)
        pairs.append((ours, theirs))
    return ratios, pairs


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def _unique(requests: Sequence[GenerateRequest]) -> int:
    prompts = [tuple(request.prompt_ids) for request in requests]
    return len({prompt[:end] for prompt in prompts for end in range(1, len(prompt) + 1)})


def _rollouts(prompts: int, each: int) -> list[Rollout]:
    random = np.random.default_rng(0)
    problems = [random.integers(2, VOCABULARY, PROMPT).tolist() for _ in range(prompts)]
    return [
        Rollout(
            rollout_id=f"p{problem}/r{index}",
            problem_id=f"p{problem}",
            split="train",
            domain="math",
            prompt_ids=prompt_ids,
            token_ids=random.integers(2, VOCABULARY, STEPS * STEP).tolist(),
            step_ends=[STEP * (step + 1) for step in range(STEPS)],
            step_char_ends=[step + 1 for step in range(STEPS)],
            step_verdicts=[0] * STEPS,
            logprobs=[],
            text="x" * STEPS,
            finish_reason="length",
            outcome=0,
        )
        for problem, prompt_ids in enumerate(problems)
        for index in range(each)
    ]


def _problem() -> Problem:
    return Problem(problem_id="p0", domain="math", prompt="", reference="", split="train", source="", licence="CC0-1.0")


def _proposals(rollout: Rollout) -> list[StepProposal]:
    random = np.random.default_rng(1)
    steps = [
        (step, proposer, ids)
        for step in range(STEPS)
        for proposer, ids in (
            ("student", rollout.step_ids(step)),
            ("teacher", random.integers(2, VOCABULARY, STEP).tolist()),
        )
    ]
    return [
        StepProposal(
            proposal_id=f"{rollout.rollout_id}/s{step}/{proposer}",
            prefix_id=f"{rollout.rollout_id}/s{step}",
            rollout_id=rollout.rollout_id,
            problem_id=rollout.problem_id,
            split=rollout.split,
            domain=rollout.domain,
            step_index=step,
            proposer=proposer,
            token_ids=ids,
            text="",
            logprobs=[],
            finish_reason="step",
            topk_ids=[],
            topk_logprobs=[],
            tail_logprob=[],
        )
        for step, proposer, ids in steps
    ]
