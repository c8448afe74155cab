"""Let the student read the teacher's steps: how likely is each to it?"""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.records import MODELS, PROPOSALS, ROLLOUTS, TEACHER_REVIEWS
from vcrd.reviews import Proposer, ReviewParams, read_reviews, review_requests

PROPOSER: Proposer = "teacher"
REVIEWER, PRM = "student", "prm"


def facts(context: Context) -> dict[str, Any]:
    """The reviewer's digests."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, REVIEWER)


def load(context: Context) -> Any:
    """Load the reviewer, where one is asked."""
    if not context.settings.get(ReviewParams).wanted(PROPOSER):
        return None
    reviewer = find_model(context.read(MODELS), REVIEWER)
    return load_engine(
        context.settings.get(EngineParams), reviewer.name, reviewer.revision, "generate", role=reviewer.role
    )


def work(engine: Any, shard: Shard) -> ShardResult:
    """Score the steps that are no training data of the process reward model."""
    rollouts = {rollout.rollout_id: rollout for rollout in shard.read(ROLLOUTS)}
    mine = [item for item in shard.read(PROPOSALS) if item.proposer == PROPOSER and item.split != PRM]
    asked = review_requests(rollouts, mine, PROPOSER) if engine else []
    answers = engine.score([item.request for item in asked], shard.progress) if engine else []
    return ShardResult(read_reviews(mine, asked, answers), [], expected=len(mine))


STAGE = ShardedStage(
    name="review_teacher_steps",
    version=1,
    sections={"engine": EngineParams, "reviews": ReviewParams},
    output=TEACHER_REVIEWS.name,
    kind=TEACHER_REVIEWS,
    sharded_inputs=(ROLLOUTS, PROPOSALS),
    also_reads=(MODELS.name,),
    facts=facts,
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
)

if __name__ == "__main__":
    stage_main("stages.review_teacher_steps")
