"""Whole solutions by the teacher, which the rivals learn from: a stage like those of the pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.models import find_model
from vcrd.prompts import PromptParams
from vcrd.records import MODELS, PROBLEMS, ROLLOUTS, Artefact, Rollout
from vcrd.rollouts import RolloutParams, read_rollouts, rollout_requests
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

SAMPLES = 4
SOLUTIONS: Artefact[Rollout] = Artefact("teacher_solutions", Rollout, "rollout_id", ROLLOUTS.schema)
TEACHER = "teacher"


def _facts(context: Context) -> dict[str, Any]:
    return {"teacher": find_model(context.read(MODELS), TEACHER).weights_fingerprint, "samples": SAMPLES}


def _load(context: Context) -> Any:
    teacher = find_model(context.read(MODELS), TEACHER)
    return load_engine(context.settings.get(EngineParams), teacher.name, teacher.revision, "generate")


def _work(engine: Any, shard: Shard) -> ShardResult:
    settings = shard.context.settings
    problems = [problem for problem in shard.read(PROBLEMS) if problem.split == "train"]
    params = replace(settings.get(RolloutParams), per_problem=SAMPLES)
    # Another seed than the student's: the same one would draw the same random numbers for both models.
    wanted = rollout_requests(problems, engine.tokenizer, settings.get(PromptParams), params, settings.seed + 1_000_000)
    answers = engine.generate(wanted, shard.progress)
    verifier = DomainVerifier(settings.get(VerifierParams))
    solutions, rejects = read_rollouts(problems, wanted, answers, decoder(engine.tokenizer), verifier)
    return ShardResult(solutions, rejects, expected=len(wanted))


STAGE = ShardedStage(
    name="solve_problems",
    version=1,
    sections={"prompts": PromptParams, "verifier": VerifierParams, "engine": EngineParams, "rollouts": RolloutParams},
    output=SOLUTIONS.name,
    kind=SOLUTIONS,
    sharded_inputs=(PROBLEMS,),
    also_reads=(MODELS.name,),
    facts=_facts,
    load=_load,
    work=_work,
)
