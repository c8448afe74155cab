"""Process reward models: how a solution is laid out for one, and where its step scores are read.

`token_classification` reads the class of the last token of each step on the run's own ids; one pass over a rollout
scores all its steps. `qwen_math_prm` is the layout of the Qwen2.5-Math-PRM models: a chat turn whose steps each end in
a tag token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from vcrd.errors import SchemaError
from vcrd.io.files import read_json, write_json
from vcrd.records import Problem, Rollout, StepProposal
from vcrd.requests import Classification, ClassifyRequest, Failure

Family = Literal["token_classification", "qwen_math_prm"]

QWEN_TAG = "<extra_0>"
_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
_VALID_CLASS = 1
_CLIP = 1e-4


SPEC_FILE = "prm.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrmTrainParams:
    """Backbone and schedule of a process reward model that the run trains."""

    base: Literal["student", "teacher"]
    """Whose weights it starts from."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the labelled steps."""
    learning_rate: Annotated[float, Gt(0)]
    """Peak; linear to zero."""
    batch_size: Annotated[int, Ge(1)]
    """Sequences per step."""
    min_labels: Annotated[int, Ge(2)]
    """With fewer labels, or without both kinds, there is no process reward model and the report says so."""
    threads: Annotated[int, Ge(1)]
    """CPU threads; sums depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrmParams:
    """Where step scores come from."""

    source: Literal["train", "local", "hub", "none"]
    """train: the run trains one on its labels; local: a folder; hub: a Hub model; none: no scores."""
    family: Family
    """Layout of the model; token_classification for one that the run trains."""
    name: str | None
    """Folder or Hub name; null where the run trains it."""
    revision: str | None
    """Hub commit."""
    train: PrmTrainParams
    """How the run trains it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrmSpec:
    """A process reward model: where it is and how it is read (the content of `prm.json`).

    Attributes:
        family: Layout.
        path: Folder or Hub name; `.` is the folder that holds this file; None: there is none, for `reason`.
        revision: Hub commit.
        reason: How it came about.
    """

    family: Family
    path: str | None
    revision: str | None
    reason: str

    def located(self, folder: Path) -> str | None:
        """Return what to load."""
        return str(folder) if self.path == "." else self.path


def read_spec(folder: Path) -> PrmSpec:
    """Read a `prm` folder's specification."""
    return PrmSpec(**read_json(folder / SPEC_FILE))


def write_spec(folder: Path, spec: PrmSpec) -> None:
    """Write it."""
    write_json(folder / SPEC_FILE, asdict(spec))


def score_requests(
    family: Family,
    problem: Problem,
    rollout: Rollout,
    proposals: Sequence[StepProposal],
    tokenizer: Any,
) -> list[tuple[ClassifyRequest, list[str]]]:
    """Lay out a rollout's proposals; each request comes with the ids of the proposals it scores, in reading order.

    The student's steps are the trunk, scored in one pass; each teacher step is a pass of its own.
    """
    own = [proposal for proposal in proposals if proposal.proposer == "student"]
    others = [proposal for proposal in proposals if proposal.proposer != "student"]
    laid_out = []
    if own:
        steps = rollout.step_texts[: max(proposal.step_index for proposal in own) + 1]
        if family == "qwen_math_prm":
            ids, ends = _qwen_layout(problem, steps, tokenizer)
        else:
            ids, ends = [*rollout.prompt_ids, *rollout.token_ids], _token_ends(rollout)
        positions = [ends[proposal.step_index] for proposal in own]
        request = ClassifyRequest(id=rollout.rollout_id, token_ids=ids, read_positions=positions)
        laid_out.append((request, [proposal.proposal_id for proposal in own]))
    for proposal in others:
        if family == "qwen_math_prm":
            steps = [*rollout.step_texts[: proposal.step_index], proposal.text]
            ids, ends = _qwen_layout(problem, steps, tokenizer)
            position = ends[-1]
        else:
            ids = [*rollout.prefix_ids(proposal.step_index), *proposal.token_ids]
            position = len(ids) - 1
        request = ClassifyRequest(id=proposal.proposal_id, token_ids=ids, read_positions=[position])
        laid_out.append((request, [proposal.proposal_id]))
    return laid_out


def _token_ends(rollout: Rollout) -> list[int]:
    return [len(rollout.prompt_ids) + end - 1 for end in rollout.step_ends]


def _qwen_layout(problem: Problem, steps: Sequence[str], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return ids and tag positions; a tag in the problem's or a step's own text is broken up, not read."""
    tag = tokenizer.convert_tokens_to_ids(QWEN_TAG)
    plain = [text.replace(QWEN_TAG, "<extra 0>").strip() for text in (problem.prompt, *steps)]
    turns = [
        {"role": "system", "content": _QWEN_SYSTEM},
        {"role": "user", "content": plain[0]},
        {"role": "assistant", "content": "".join(step + QWEN_TAG for step in plain[1:])},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    positions = [index for index, token in enumerate(ids) if token == tag]
    if len(positions) != len(steps):
        raise SchemaError(f"expected {len(steps)} tags, got {len(positions)}", file=problem.problem_id)
    return ids, positions


def read_scores(
    laid_out: Sequence[tuple[ClassifyRequest, Sequence[str]]], answers: Sequence[Classification | Failure]
) -> dict[str, float | str]:
    """Return each proposal's score, clipped to [1e-4, 1 - 1e-4], or the reason why it has none."""
    scores: dict[str, float | str] = {}
    for (_, names), answer in zip(laid_out, answers, strict=True):
        if isinstance(answer, Failure):
            scores.update(dict.fromkeys(names, answer.reason))
            continue
        for name, probabilities in zip(names, answer.probabilities, strict=True):
            scores[name] = float(min(max(probabilities[_VALID_CLASS], _CLIP), 1 - _CLIP))
    return scores


def training_rows(
    rollouts: Sequence[Rollout], proposals: Sequence[StepProposal], labels: dict[str, int]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Lay out labelled steps for training: ids, and (position, label) pairs to learn there."""
    by_rollout: dict[str, list[StepProposal]] = {}
    for proposal in proposals:
        if proposal.proposal_id in labels:
            by_rollout.setdefault(proposal.rollout_id, []).append(proposal)
    rows = []
    for rollout in rollouts:
        mine = by_rollout.get(rollout.rollout_id, [])
        ends = _token_ends(rollout)
        own = [(ends[item.step_index], labels[item.proposal_id]) for item in mine if item.proposer == "student"]
        if own:
            rows.append(([*rollout.prompt_ids, *rollout.token_ids], own))
        for item in mine:
            if item.proposer != "student":
                ids = [*rollout.prefix_ids(item.step_index), *item.token_ids]
                rows.append((ids, [(len(ids) - 1, labels[item.proposal_id])]))
    return rows
