"""Training rows of a process reward model: from the run's own labelled steps, and from steps that people labelled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from vcrd.io.rejects import Reject, reject
from vcrd.io.sources import SourceRow
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.records import Problem, Rollout, StepProposal

PrmRow = tuple[list[int], list[tuple[int, int]]]
"""Token ids, and (position, label) pairs to learn there."""


def token_ends(rollout: Rollout) -> list[int]:
    """Return the position of each step's last token."""
    return [len(rollout.prompt_ids) + end - 1 for end in rollout.step_ends]


def training_rows(
    rollouts: Sequence[Rollout], proposals: Sequence[StepProposal], labels: Mapping[str, int | None]
) -> list[PrmRow]:
    """Lay out the run's labelled steps: a rollout's own in one row, each other proposal in one of its own."""
    by_rollout: dict[str, list[tuple[StepProposal, int]]] = {}
    for proposal in proposals:
        if (label := labels.get(proposal.proposal_id)) is not None:
            by_rollout.setdefault(proposal.rollout_id, []).append((proposal, label))
    rows: list[PrmRow] = []
    for rollout in rollouts:
        mine = by_rollout.get(rollout.rollout_id, [])
        ends = token_ends(rollout)
        own = [(ends[item.step_index], label) for item, label in mine if item.proposer == "student"]
        if own:
            rows.append(([*rollout.prompt_ids, *rollout.token_ids], own))
        for item, label in mine:
            if item.proposer != "student":
                ids = [*rollout.prefix_ids(item.step_index), *item.token_ids]
                rows.append((ids, [(len(ids) - 1, label)]))
    return rows


def describe_labels(labels: Collection[int | None], people: Sequence[PrmRow], least: int) -> tuple[str, bool]:
    """Say what there is to learn from, and whether that is enough: `least` labels in all, of both kinds.

    >>> describe_labels([1, None, 0, 1], [([3, 4], [(1, 1)])], least=4)
    ('trained on 3 labels of 4 steps and 1 by people, 3 of them sound', True)
    """
    known = [label for label in labels if label is not None]
    given = [label for _, marks in people for _, label in marks]
    by_people = f" and {len(given)} by people" if given else ""
    count, sound = len(known) + len(given), sum(known) + sum(given)
    said = f"{len(known)} labels of {len(labels)} steps{by_people}, {sound} of them sound"
    if count >= least and 0 < sound < count:
        return f"trained on {said}", True
    return f"not trained: {said}; prm.train.min_labels is {least} and both kinds are needed", False


def stepwise_rows(
    source: Iterable[SourceRow], tokenizer: Any, prompts: PromptParams, max_length: int
) -> tuple[list[PrmRow], list[Reject]]:
    """Lay out steps that people labelled as the run lays out its own rollouts; every row becomes one or a reject.

    The steps are joined first, each ending its line, and tokenized together: a token that straddles a cut belongs to
    the step that it ends.

    Args:
        source: Rows of `prompt`, `completions` (steps) and `labels` (one per step, true where it is sound).
        tokenizer: Of the model that is trained.
        prompts: How the run puts a problem to its models.
        max_length: Tokens that the model takes.
    """
    rows: list[PrmRow] = []
    rejects: list[Reject] = []
    for row in source:
        made = _stepwise_row(row, tokenizer, prompts, max_length)
        if isinstance(made, Reject):
            rejects.append(made)
        else:
            rows.append(made)
    return rows, rejects


def _stepwise_row(row: SourceRow, tokenizer: Any, prompts: PromptParams, max_length: int) -> PrmRow | Reject:
    if row.values is None:
        return reject(row.place, "broken_json", row.error)
    prompt, steps, labels = (row.values.get(name) for name in ("prompt", "completions", "labels"))
    if not isinstance(prompt, str) or not prompt.strip():
        return reject(row.place, "no_prompt", "column 'prompt' holds no text", row=row.values)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) and step.strip() for step in steps):
        return reject(row.place, "bad_completions", "column 'completions' is no list of steps", row=row.values)
    if not isinstance(labels, list) or not all(isinstance(label, bool) for label in labels):
        return reject(row.place, "bad_labels", "column 'labels' is no list of true and false", row=row.values)
    if len(labels) != len(steps):
        return reject(row.place, "bad_labels", f"{len(steps)} completions, {len(labels)} labels", row=row.values)
    before = prompt_ids(_problem(row.place, prompt), tokenizer, prompts)
    ids, ends = _joined(steps, tokenizer)
    if len(before) + len(ids) > max_length:
        message = f"{len(before) + len(ids)} tokens, the model takes {max_length}"
        return reject(row.place, "too_long", message, row=row.values)
    marks = [(len(before) + end, int(label)) for end, label in zip(ends, labels, strict=True)]
    return [*before, *ids], marks


def _joined(steps: Sequence[str], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids of all steps and the index of each one's last token."""
    text, cuts = "", []
    for step in steps:
        text += step if step.endswith("\n") else step + "\n"
        cuts.append(len(text))
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in coded["offset_mapping"]]
    return list(coded["input_ids"]), [sum(start < cut for start in starts) - 1 for cut in cuts]


def _problem(name: str, prompt: str) -> Problem:
    return Problem(
        problem_id=name, domain="math", prompt=prompt, reference=None, split="prm", source="stepwise", licence=""
    )
