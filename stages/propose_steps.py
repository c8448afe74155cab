"""Ask the teacher for its next step under every chosen prefix of the student's rollouts."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.proposals import ProposalParams, chosen, own_step_requests, read_proposals, teacher_requests
from vcrd.records import MODELS, PROPOSALS, ROLLOUTS
from vcrd.tokenization import decoder


def facts(context: Context) -> dict[str, Any]:
    """The teacher's digests."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, "teacher")


def load(context: Context) -> Any:
    """Load the teacher."""
    teacher = find_model(context.read(MODELS), "teacher")
    return load_engine(
        context.settings.get(EngineParams), teacher.name, teacher.revision, "generate", role=teacher.role
    )


def work(engine: Any, shard: Shard) -> ShardResult:
    """Generate the teacher's steps, score the student's where that is wanted, and pair them."""
    rollouts, params = shard.read(ROLLOUTS), shard.context.settings.get(ProposalParams)
    answers = engine.generate(teacher_requests(rollouts, params, shard.context.settings.seed), shard.progress)
    scores = engine.score(own_step_requests(rollouts, params), shard.progress)
    proposals, rejects = read_proposals(rollouts, params, answers, scores, decoder(engine.tokenizer))
    return ShardResult(proposals, rejects, expected=2 * len(list(chosen(rollouts, params))))


STAGE = ShardedStage(
    name="propose_steps",
    version=1,
    sections={"engine": EngineParams, "proposals": ProposalParams},
    output=PROPOSALS.name,
    kind=PROPOSALS,
    sharded_inputs=(ROLLOUTS,),
    also_reads=(MODELS.name,),
    facts=facts,
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
)

if __name__ == "__main__":
    stage_main("stages.propose_steps")
