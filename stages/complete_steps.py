"""Spend Monte-Carlo completions on the steps of the train problems, round by round, where they matter."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.allocation import CompletionParams, allocate, hear_round, next_round
from vcrd.completions import CompleterParams
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.records import COMPLETIONS, EVIDENCE, MODELS, PROBLEMS, PROPOSALS, ROLLOUTS
from vcrd.reliability import read_reliability
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

RELIABILITY = "reliability"


def facts(context: Context) -> dict[str, Any]:
    """The completer's digests."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, context.settings.get(CompleterParams).role)


def load(context: Context) -> Any:
    """Load the completer and the maps."""
    model = find_model(context.read(MODELS), context.settings.get(CompleterParams).role)
    engine = load_engine(context.settings.get(EngineParams), model.name, model.revision, "generate", role=model.role)
    return engine, read_reliability(context.inputs.folder(RELIABILITY))


def work(loaded: Any, shard: Shard) -> ShardResult:
    """Run rounds over all rollouts of the shard until none wants another completion."""
    engine, reliability = loaded
    settings = shard.context.settings
    verifier, decode = DomainVerifier(settings.get(VerifierParams)), decoder(engine.tokenizer)
    allocations = allocate(
        shard.read(PROBLEMS),
        [rollout for rollout in shard.read(ROLLOUTS) if rollout.split == "train"],
        shard.read(PROPOSALS),
        shard.read(EVIDENCE),
        reliability,
        verifier,
        settings.get(CompletionParams),
        settings.get(CompleterParams),
    )
    while wanted := next_round(allocations, settings.seed):
        answers = engine.generate([request for _, request in wanted], shard.progress)
        hear_round(wanted, answers, decode, verifier)
    records = [record for allocation in allocations for record in allocation.records]
    return ShardResult(records, [], expected=sum(allocation.expected for allocation in allocations))


STAGE = ShardedStage(
    name="complete_steps",
    version=2,
    sections={
        "verifier": VerifierParams,
        "engine": EngineParams,
        "completer": CompleterParams,
        "completions": CompletionParams,
    },
    output=COMPLETIONS.name,
    kind=COMPLETIONS,
    sharded_inputs=(PROBLEMS, ROLLOUTS, PROPOSALS, EVIDENCE),
    whole_inputs=(RELIABILITY,),
    also_reads=(MODELS.name,),
    facts=facts,
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
    splits=("train",),
)

if __name__ == "__main__":
    stage_main("stages.complete_steps")
