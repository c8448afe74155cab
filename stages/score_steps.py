"""Gather the evidence of every proposal: rule verdict, process reward score, peer review, position."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.evidence import judge_proposal, make_evidence
from vcrd.prm import StepLayout, read_scores, read_spec, score_requests
from vcrd.records import EVIDENCE, PROBLEMS, PROPOSALS, ROLLOUTS, STUDENT_REVIEWS, TEACHER_REVIEWS, StepProposal
from vcrd.tokenization import load_tokenizer
from vcrd.verifiers.base import Verdict
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

PRM = "prm"


def load(context: Context) -> Any:
    """Load the process reward model, where there is one."""
    spec = read_spec(context.inputs.folder(PRM))
    path = spec.located(context.inputs.folder(PRM))
    if path is None:
        return None, None
    params = context.settings.get(EngineParams)
    if spec.family == "token_classification":
        return None, load_engine(params, path, spec.revision, "classify")
    layout = StepLayout(spec, load_tokenizer(path, spec.revision))
    return layout, load_engine(params, path, spec.revision, "classify", layout.head)


def work(loaded: Any, shard: Shard) -> ShardResult:
    """Judge by rules and score; what trained the model is no evidence."""
    layout, engine = loaded
    problems = {problem.problem_id: problem for problem in shard.read(PROBLEMS)}
    rollouts = {rollout.rollout_id: rollout for rollout in shard.read(ROLLOUTS)}
    proposals = [proposal for proposal in shard.read(PROPOSALS) if proposal.split != PRM]
    verifier = DomainVerifier(shard.context.settings.get(VerifierParams))
    verdicts: dict[str, Verdict] = {}
    by_rollout: dict[str, list[StepProposal]] = {}
    for proposal in proposals:
        rollout = rollouts[proposal.rollout_id]
        verdict = judge_proposal(problems[proposal.problem_id], rollout, proposal, verifier)
        verdicts[proposal.proposal_id] = verdict
        by_rollout.setdefault(rollout.rollout_id, []).append(proposal)
    scores: dict[str, float | str] = {}
    if engine is not None:
        asked = [
            item
            for name, mine in by_rollout.items()
            for item in score_requests(layout, problems[rollouts[name].problem_id], rollouts[name], mine)
        ]
        answers = engine.classify([item.request for item in asked], shard.progress)
        scores = read_scores(asked, answers)
    reviews = [*shard.read(STUDENT_REVIEWS), *shard.read(TEACHER_REVIEWS)]
    evidence = make_evidence(rollouts, proposals, verdicts, scores, reviews)
    return ShardResult(evidence, [], expected=len(proposals))


STAGE = ShardedStage(
    name="score_steps",
    version=3,
    sections={"verifier": VerifierParams, "engine": EngineParams},
    output=EVIDENCE.name,
    kind=EVIDENCE,
    sharded_inputs=(PROBLEMS, ROLLOUTS, PROPOSALS, STUDENT_REVIEWS, TEACHER_REVIEWS),
    whole_inputs=(PRM,),
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
)

if __name__ == "__main__":
    stage_main("stages.score_steps")
