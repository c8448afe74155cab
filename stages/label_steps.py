"""Label the steps of the label problems by completions from before and behind them."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.completions import CompleterParams
from vcrd.evidence import judge_proposals
from vcrd.labels import (
    LabelParams,
    Outcomes,
    label_proposals,
    label_requests,
    read_label_outcomes,
    undecided,
)
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.problems import LABEL_SPLITS
from vcrd.records import LABELS, MODELS, PROBLEMS, PROPOSALS, ROLLOUTS, LabelledStep
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams


def facts(context: Context) -> dict[str, Any]:
    """The completer's digests."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, context.settings.get(CompleterParams).role)


def load(context: Context) -> Any:
    """Load the completer."""
    model = find_model(context.read(MODELS), context.settings.get(CompleterParams).role)
    return load_engine(context.settings.get(EngineParams), model.name, model.revision, "generate", role=model.role)


def work(engine: Any, shard: Shard) -> ShardResult:
    """Complete, judge and label."""
    settings = shard.context.settings
    labels, completer = settings.get(LabelParams), settings.get(CompleterParams)
    verifier, decode = DomainVerifier(settings.get(VerifierParams)), decoder(engine.tokenizer)
    problems = {problem.problem_id: problem for problem in shard.read(PROBLEMS)}
    rollouts = {rollout.rollout_id: rollout for rollout in shard.read(ROLLOUTS) if rollout.split in LABEL_SPLITS}
    proposals = [proposal for proposal in shard.read(PROPOSALS) if proposal.split in LABEL_SPLITS]
    verdicts, finals = judge_proposals(problems, rollouts, proposals, verifier)
    outcomes, labelled = Outcomes({}, {}), list[LabelledStep]()
    for more in (False, True):
        open_ones = undecided(proposals, labelled)
        wanted = label_requests(rollouts, open_ones, verdicts, labels, completer, settings.seed, more=more)
        answers = engine.generate([item.request for item in wanted], shard.progress)
        read_label_outcomes(wanted, answers, problems, rollouts, decode, verifier, outcomes)
        labelled = label_proposals(rollouts, proposals, verdicts, outcomes, finals, labels, completer.v_min)
    return ShardResult(labelled, [], expected=len(proposals))


STAGE = ShardedStage(
    name="label_steps",
    version=2,
    sections={
        "verifier": VerifierParams,
        "engine": EngineParams,
        "labels": LabelParams,
        "completer": CompleterParams,
    },
    output=LABELS.name,
    kind=LABELS,
    sharded_inputs=(PROBLEMS, ROLLOUTS, PROPOSALS),
    also_reads=(MODELS.name,),
    facts=facts,
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
    splits=LABEL_SPLITS,
)

if __name__ == "__main__":
    stage_main("stages.label_steps")
