"""What a student is worth: greedy answers to the held-out problems of its pool."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.experiments.loaded import Pool
from pipeline.engines import EngineParams, load_engine
from vcrd.domains import DOMAINS
from vcrd.evaluation import EvaluationParams, evaluation_requests, read_evaluation
from vcrd.prompts import PromptParams
from vcrd.tokenization import decoder
from vcrd.training.pretrain import save
from vcrd.verifiers.base import VALID
from vcrd.verifiers.domain import DomainVerifier, VerifierParams


@dataclass(frozen=True, slots=True)
class Mark:
    """Shares of right answers and of steps that the oracle calls sound, and of how many problems."""

    accuracy: float
    step_validity: float
    n: int


def test(model: Any, tokenizer: Any, pool: Pool) -> Mark:
    """Let a model answer; one whose answer cannot be read has failed."""
    with tempfile.TemporaryDirectory() as scratch:
        save(model, tokenizer, Path(scratch))
        return test_saved(scratch, pool)


def test_saved(path: str, pool: Pool) -> Mark:
    """Let a saved model answer."""
    settings, problems = pool.settings, pool.tested
    engine = load_engine(settings.get(EngineParams), path, None, "generate")
    asked = evaluation_requests(
        problems, "tested", engine.tokenizer, settings.get(PromptParams), settings.get(EvaluationParams)
    )
    answers = engine.generate(asked, lambda tokens: None)
    verifier = DomainVerifier(settings.get(VerifierParams))
    oracle = DOMAINS[pool.place.domain].step_is_valid
    rows, _ = read_evaluation(problems, "tested", answers, decoder(engine.tokenizer), verifier, oracle)
    engine.close()
    steps = [step for row in rows for step in row.oracle_steps]
    right = sum(row.outcome == VALID for row in rows)
    return Mark(right / len(problems), sum(steps) / max(len(steps), 1), len(problems))
