"""Records for tests: whole ones, of which a test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vcrd.domains.demo_math import DOMAIN
from vcrd.records import Evidence, Problem, Rollout, StepProposal, Validity
from vcrd.reliability import LabelledTable, ReliabilityModel, ReliabilityParams, fit_reliability, tabulate
from vcrd.requests import GenerateRequest, Generation, Sampling
from vcrd.rollouts import read_rollouts
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

TOKENIZER = DOMAIN.build_tokenizer()
DECODE = decoder(TOKENIZER)
VERIFIER = DomainVerifier(VerifierParams(modulus=10))
PROMPT = "a=1+2 b=3*4 ?"
RIGHT = ("a 1+2=3 3+0=3\n", "b 3*4=2 2+3=5\n", "#### 5")


def unfitted_reliability() -> ReliabilityModel:
    """What a run without labels has: one half for every step, very unsurely."""
    nothing = LabelledTable(evidence=tabulate([]), labels=np.array([]), groups=np.array([], str))
    return fit_reliability(nothing, ReliabilityParams(l2=0.1, floor=0.01, min_labels=10, noisy_labels=False), {})


def problem(prompt: str = PROMPT, reference: str | None = "5", split: str = "train", **values: Any) -> Problem:
    given: dict[str, Any] = {"problem_id": "p", "domain": "math", "source": "demo-math", "licence": "CC0-1.0"}
    return Problem(prompt=prompt, reference=reference, split=split, **{**given, **values})


def generation(name: str, text: str, finish: str = "eos") -> Generation:
    ids = [*TOKENIZER.encode(text), *([TOKENIZER.eos_token_id] if finish == "eos" else [])]
    return Generation(id=name, token_ids=ids, logprobs=np.full(len(ids), -0.5, np.float32), finish_reason=finish)


def rollout(steps: Sequence[str] = RIGHT, of: Problem | None = None, finish: str = "eos") -> Rollout:
    """A rollout as the run itself would read it."""
    of = of or problem()
    request = GenerateRequest(
        id=f"{of.problem_id}/r0",
        prompt_ids=TOKENIZER.encode(of.prompt + "\n"),
        seed=0,
        sampling=Sampling(max_tokens=99),
    )
    rollouts, _ = read_rollouts([of], [request], [generation(request.id, "".join(steps), finish)], DECODE, VERIFIER)
    return rollouts[0]


def proposal(
    of: Rollout, step_index: int, proposer: str = "teacher", text: str = RIGHT[0], **values: Any
) -> StepProposal:
    ids = TOKENIZER.encode(text)
    last = text.startswith("####")
    ids = [*ids, TOKENIZER.eos_token_id] if last else ids
    given: dict[str, Any] = {
        "proposal_id": f"{of.rollout_id}/s{step_index}/{proposer}",
        "prefix_id": f"{of.rollout_id}/s{step_index}",
        "rollout_id": of.rollout_id,
        "problem_id": of.problem_id,
        "split": of.split,
        "domain": of.domain,
        "step_index": step_index,
        "proposer": proposer,
        "token_ids": ids,
        "text": text,
        "logprobs": [-0.1] * len(ids),
        "topk_ids": [[1, 2]] * len(ids),
        "topk_logprobs": [[-0.5, -1.5]] * len(ids),
        "tail_logprob": [-1.8] * len(ids),
        "finish_reason": "eos" if last else "step",
    }
    return StepProposal(**{**given, **values})


def evidence(of: StepProposal, rule: int = 0, score: float | None = 0.7) -> Evidence:
    return Evidence(
        proposal_id=of.proposal_id,
        prefix_id=of.prefix_id,
        rollout_id=of.rollout_id,
        problem_id=of.problem_id,
        split=of.split,
        domain=of.domain,
        proposer=of.proposer,
        step_index=of.step_index,
        position=0.5,
        rule=rule,
        rule_reason="",
        score_prm=score,
        prm_missing="",
        score_peer=None,
        peer_missing="not_asked",
    )


def validity(of: StepProposal, value: float = 0.5, rule: int = 0, broken: bool = False) -> Validity:
    return Validity(
        proposal_id=of.proposal_id,
        prefix_id=of.prefix_id,
        rollout_id=of.rollout_id,
        problem_id=of.problem_id,
        domain=of.domain,
        step_index=of.step_index,
        proposer=of.proposer,
        position=0.0,
        rule=rule,
        rule_reason="",
        score_prm=None,
        score_peer=None,
        successes=0,
        trials=0,
        local_validity=value,
        local_validity_sd=0.1,
        prefix_broken=broken,
    )
