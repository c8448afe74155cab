"""Let the student write solutions of the train and label problems, cut into steps and checked by rules."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.problems import ROLLOUT_SPLITS
from vcrd.prompts import PromptParams
from vcrd.records import MODELS, PROBLEMS, ROLLOUTS
from vcrd.rollouts import RolloutParams, brought_rollouts, read_rollouts, rollout_requests
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams


def facts(context: Context) -> dict[str, Any]:
    """The student's digests."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, "student")


def load(context: Context) -> Any:
    """Load the student."""
    student = find_model(context.read(MODELS), "student")
    return load_engine(
        context.settings.get(EngineParams), student.name, student.revision, "generate", role=student.role
    )


def work(engine: Any, shard: Shard) -> ShardResult:
    """Generate, or take what the user brought; then cut and check."""
    settings = shard.context.settings
    problems = [problem for problem in shard.read(PROBLEMS) if problem.split in ROLLOUT_SPLITS]
    prompts = settings.get(PromptParams)
    wanted = rollout_requests(problems, engine.tokenizer, prompts, settings.get(RolloutParams), settings.seed)
    requests, answers = brought_rollouts(problems, engine.tokenizer, prompts)
    requests, answers = [*wanted, *requests], [*engine.generate(wanted, shard.progress), *answers]
    verifier = DomainVerifier(settings.get(VerifierParams))
    rollouts, rejects = read_rollouts(problems, requests, answers, decoder(engine.tokenizer), verifier)
    return ShardResult(rollouts, rejects, expected=len(requests))


STAGE = ShardedStage(
    name="generate_rollouts",
    version=1,
    sections={"prompts": PromptParams, "verifier": VerifierParams, "engine": EngineParams, "rollouts": RolloutParams},
    output=ROLLOUTS.name,
    kind=ROLLOUTS,
    sharded_inputs=(PROBLEMS,),
    also_reads=(MODELS.name,),
    facts=facts,
    load=load,
    work=work,
    sample_kind=PROBLEMS,
    splits=ROLLOUT_SPLITS,
)

if __name__ == "__main__":
    stage_main("stages.generate_rollouts")
