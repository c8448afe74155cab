"""Gather the evidence of every proposal: rule verdict, process reward score, position."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.evidence import judge_proposal, make_evidence
from vcrd.prm import read_scores, read_spec, score_requests
from vcrd.records import EVIDENCE, PROBLEMS, PROPOSALS, ROLLOUTS, StepProposal
from vcrd.verifiers.base import Verdict
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

PRM = "prm"


def load(context: Context) -> Any:
    """Load the process reward model, where there is one."""
    spec = read_spec(context.inputs.folder(PRM))
    path = spec.located(context.inputs.folder(PRM))
    if path is None:
        return spec, None
    return spec, load_engine(context.settings.get(EngineParams), path, spec.revision, "classify")


def work(loaded: Any, shard: Shard) -> ShardResult:
    """Judge by rules and score; what trained the model is no evidence."""
    spec, engine = loaded
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
        laid_out = [
            item
            for name, mine in by_rollout.items()
            for item in score_requests(
                spec.family, problems[rollouts[name].problem_id], rollouts[name], mine, engine.tokenizer
            )
        ]
        answers = engine.classify([request for request, _ in laid_out], shard.progress)
        scores = read_scores(laid_out, answers)
    evidence = make_evidence(rollouts, proposals, verdicts, scores)
    return ShardResult(evidence, [], expected=len(proposals))


STAGE = ShardedStage(
    name="score_steps",
    version=1,
    sections={"verifier": VerifierParams, "engine": EngineParams},
    output=EVIDENCE.name,
    kind=EVIDENCE,
    sharded_inputs=(PROBLEMS, ROLLOUTS, PROPOSALS),
    whole_inputs=(PRM,),
    load=load,
    work=work,
    sample_kind=ROLLOUTS,
)

if __name__ == "__main__":
    stage_main("stages.score_steps")
