"""Requests that score the steps of a rollout and the proposals beside them, and their scores read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcrd.errors import ConfigError, SchemaError
from vcrd.prm.layout import StepLayout
from vcrd.prm.rows import token_ends
from vcrd.records import Problem, Rollout, StepProposal
from vcrd.requests import Classification, ClassifyRequest, Failure, FloatArray

CLIP = 1e-4


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A pass of the model, and the ids of the proposals it scores, in the order of its read positions."""

    request: ClassifyRequest
    proposal_ids: Sequence[str]


def score_requests(
    layout: StepLayout | None, problem: Problem, rollout: Rollout, proposals: Sequence[StepProposal]
) -> list[StepRequest]:
    """Lay out a rollout's proposals.

    The student's steps are the trunk, scored in one pass; each teacher step is a pass of its own. A model that scores
    one step a pass has one for every proposal.

    Args:
        layout: Of the model; None: it reads the run's own ids.
        problem: That the rollout solves.
        rollout: Its steps are the prefixes.
        proposals: Of this rollout, by the student and by others.
    """
    own = [proposal for proposal in proposals if proposal.proposer == "student"]
    if layout is None:
        trunk = [_own_ids(rollout, own)] if own else []
        return trunk + [_proposal_ids(rollout, item) for item in proposals if item.proposer != "student"]
    if layout.per_step:
        return [_last_step(layout, problem, rollout, item) for item in proposals]
    trunk = [_own_text(layout, problem, rollout, own)] if own else []
    return trunk + [_last_step(layout, problem, rollout, item) for item in proposals if item.proposer != "student"]


def _own_ids(rollout: Rollout, own: Sequence[StepProposal]) -> StepRequest:
    ends = token_ends(rollout)
    positions = [ends[item.step_index] for item in own]
    token_ids = [*rollout.prompt_ids, *rollout.token_ids][: max(positions) + 1]
    return _request(rollout.rollout_id, token_ids, positions, own)


def _proposal_ids(rollout: Rollout, proposal: StepProposal) -> StepRequest:
    token_ids = [*rollout.prefix_ids(proposal.step_index), *proposal.token_ids]
    return _request(proposal.proposal_id, token_ids, [len(token_ids) - 1], [proposal])


def _own_text(layout: StepLayout, problem: Problem, rollout: Rollout, own: Sequence[StepProposal]) -> StepRequest:
    steps = rollout.step_texts[: max(item.step_index for item in own) + 1]
    token_ids, positions = _lay_out(layout, problem, steps, rollout.rollout_id)
    return _request(rollout.rollout_id, token_ids, [positions[item.step_index] for item in own], own)


def _last_step(layout: StepLayout, problem: Problem, rollout: Rollout, proposal: StepProposal) -> StepRequest:
    steps = [*rollout.step_texts[: proposal.step_index], proposal.text]
    token_ids, positions = _lay_out(layout, problem, steps, proposal.proposal_id)
    return _request(proposal.proposal_id, token_ids, positions[-1:], [proposal])


def _lay_out(layout: StepLayout, problem: Problem, steps: Sequence[str], name: str) -> tuple[list[int], list[int]]:
    laid = layout.lay_out(problem.prompt, steps)
    expected = 1 if layout.per_step else len(steps)
    if len(laid.positions) != expected:
        raise SchemaError(f"{expected} steps are laid out, but {len(laid.positions)} would be scored", file=name)
    return laid.token_ids, laid.positions


def _request(name: str, ids: list[int], positions: list[int], scored: Sequence[StepProposal]) -> StepRequest:
    request = ClassifyRequest(id=name, token_ids=ids, read_positions=positions)
    return StepRequest(request, [item.proposal_id for item in scored])


def read_scores(asked: Sequence[StepRequest], answers: Sequence[Classification | Failure]) -> dict[str, float | str]:
    """Return each proposal's score, clipped to [1e-4, 1 - 1e-4], or the reason why it has none.

    Raises:
        SchemaError: An answer has more or fewer scores than steps were asked for.
        ConfigError: The model has other classes than wrong and sound.
    """
    scores: dict[str, float | str] = {}
    for item, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Failure):
            scores.update(dict.fromkeys(item.proposal_ids, answer.reason))
            continue
        if len(answer.probabilities) != len(item.proposal_ids):
            counts = f"{len(item.proposal_ids)} steps, {len(answer.probabilities)} scores"
            raise SchemaError(counts, file=item.request.id)
        for name, probabilities_C in zip(item.proposal_ids, answer.probabilities, strict=True):
            scores[name] = min(max(_sound(probabilities_C), CLIP), 1 - CLIP)
    return scores


def _sound(probabilities_C: FloatArray) -> float:
    """Return the probability of the last class: the only one, or the second of wrong and sound."""
    if len(probabilities_C) > 2:
        raise ConfigError(f"the process reward model has {len(probabilities_C)} classes; expected wrong and sound")
    return float(probabilities_C[-1])
