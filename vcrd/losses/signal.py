"""What the losses are given beside the model: labels, weights, the teacher's candidates; and what is refused.

Axis letters: T predictions, K teacher candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100
NO_CANDIDATE = -1
# Log-probabilities of 0 come out of a float32 log-softmax as 1e-7, out of narrow storage as more.
_ABOVE_ZERO = 1e-3


class Teacher(NamedTuple):
    """The teacher's candidates at some predictions.

    Attributes:
        ids_TK: Distinct within a row where there is a candidate, 0 elsewhere.
        logprobs_TK: float64, -inf where there is no candidate.
        tail_logprob_T: float64, log of the rest of the mass; -inf for none.
    """

    ids_TK: Tensor
    logprobs_TK: Tensor
    tail_logprob_T: Tensor

    @property
    def candidate_TK(self) -> Tensor:
        """Where there is a candidate."""
        return self.logprobs_TK > float("-inf")

    def rows(self, index: slice) -> Teacher:
        """Return those of some predictions."""
        return Teacher(*(part[index] for part in self))


def no_teacher(rows: int, device: torch.device) -> Teacher:
    """Return a teacher without candidates."""
    blank = torch.empty((rows, 0), device=device, dtype=exact_dtype(device))
    return Teacher(blank.long(), blank, blank.new_full((rows,), float("-inf")))


class Refusal(NamedTuple):
    """A rule about an argument: `wrong` marks the elements of `values` that break it."""

    name: str
    wrong: Tensor
    values: Tensor
    expected: str


def refuse(rules: list[Refusal]) -> None:
    """Raise a ValueError that names the first row of the first broken rule; reads the device once."""
    broken = torch.stack([rule.wrong.any() for rule in rules]).tolist()
    for rule, is_broken in zip(rules, broken, strict=True):
        if is_broken:
            row, value = int(rule.wrong.nonzero()[0, 0]), rule.values[rule.wrong][0].item()
            raise ValueError(f"{rule.name}: row {row} holds {value}; expected {rule.expected}")


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return what the few numbers of a prediction are computed in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def tail_logprob(teacher_topk_logprobs_TK: Tensor) -> Tensor:
    """Return log(1 - sum of the candidates' probabilities), [T]; -inf where they hold all the mass.

    Args:
        teacher_topk_logprobs_TK: -inf where there is no candidate, [T, K].

    >>> tail_logprob(torch.tensor([[0.5, 0.25], [1.0, 0.0]]).log()).exp()
    tensor([0.2500, 0.0000])
    """
    return torch.log(-torch.expm1(teacher_topk_logprobs_TK.logsumexp(-1).clamp_max(0.0)))


def check_predictions(
    rows: int, vocabulary: int, labels_T: Tensor, token_weights_T: Tensor, denominator: Tensor | None = None
) -> None:
    """Refuse labels, weights or a denominator that cannot be right.

    Raises:
        ValueError: A length is not `rows`, a label is neither -100 nor an id, a weight is negative or not finite,
            or the denominator is not positive although something is to be learned.
    """
    if labels_T.shape != (rows,) or token_weights_T.shape != (rows,):
        shapes = f"{list(labels_T.shape)} and {list(token_weights_T.shape)}"
        raise ValueError(f"labels and token weights must be [{rows}], a row each per prediction; got {shapes}")
    supervised_T = labels_T != IGNORED
    rules = [
        Refusal(
            "labels_T",
            supervised_T & ((labels_T < 0) | (labels_T >= vocabulary)),
            labels_T,
            f"{IGNORED} or an id in [0, {vocabulary})",
        ),
        Refusal(
            "token_weights_T",
            ~((token_weights_T >= 0) & token_weights_T.isfinite()),
            token_weights_T,
            "a finite weight of at least 0",
        ),
    ]
    if denominator is not None:
        denominator_1 = denominator.reshape(1)
        learns = (supervised_T & (token_weights_T > 0)).any()
        wrong_1 = learns & ~((denominator_1 > 0) & denominator_1.isfinite())
        rules.append(Refusal("denominator", wrong_1, denominator_1, "a finite number above 0"))
    refuse(rules)


def read_teacher(
    active_T: Tensor,
    vocabulary: int,
    teacher_topk_ids_TK: Tensor | None,
    teacher_topk_logprobs_TK: Tensor | None,
    teacher_tail_logprob_T: Tensor | None = None,
) -> Teacher | None:
    """Check the teacher's candidates where a prediction is active and return those rows; None where none are given.

    Raises:
        ValueError: The arguments do not belong together; or a candidate (an id other than -1 with a log-probability
            other than -inf) is out of range, occurs twice in its row, or has a log-probability that is NaN or above 0.
    """
    if teacher_topk_ids_TK is None or teacher_topk_logprobs_TK is None:
        if teacher_topk_ids_TK is teacher_topk_logprobs_TK:
            return None
        raise ValueError("teacher_topk_ids_TK and teacher_topk_logprobs_TK come together; got one of them")
    rows = len(active_T)
    parts = (teacher_topk_ids_TK, teacher_topk_logprobs_TK, teacher_tail_logprob_T)
    shapes = [list(part.shape) for part in parts if part is not None]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != rows or shapes[2:] not in ([], [[rows]]):
        expected = f"[{rows}, K], [{rows}, K] and, if given, [{rows}]"
        raise ValueError(f"teacher ids, log-probabilities and tail must be {expected}; got {shapes}")

    is_candidate_TK = (teacher_topk_ids_TK != NO_CANDIDATE) & (teacher_topk_logprobs_TK != float("-inf"))
    is_candidate_TK &= active_T.unsqueeze(-1)
    tail_T = torch.zeros(rows, device=active_T.device) if teacher_tail_logprob_T is None else teacher_tail_logprob_T
    refuse(_teacher_rules(is_candidate_TK, vocabulary, teacher_topk_ids_TK, teacher_topk_logprobs_TK, tail_T))

    exact, kept_TK = exact_dtype(active_T.device), is_candidate_TK[active_T]
    logprobs_TK = teacher_topk_logprobs_TK[active_T].to(exact).masked_fill(~kept_TK, float("-inf"))
    tail_T = tail_logprob(logprobs_TK) if teacher_tail_logprob_T is None else tail_T[active_T].to(exact)
    # Candidates that are the whole vocabulary leave no tail: what rounding says is left of the mass has no class.
    tail_T = tail_T.masked_fill(kept_TK.sum(-1) == vocabulary, float("-inf"))
    return Teacher(teacher_topk_ids_TK[active_T].long().masked_fill(~kept_TK, 0), logprobs_TK, tail_T)


def _teacher_rules(
    is_candidate_TK: Tensor, vocabulary: int, ids_TK: Tensor, logprobs_TK: Tensor, tail_T: Tensor
) -> list[Refusal]:
    blanks_K = NO_CANDIDATE - 1 - torch.arange(ids_TK.shape[-1], device=ids_TK.device)
    ordered_TK = torch.where(is_candidate_TK, ids_TK.long(), blanks_K).sort(-1).values
    twice_TJ = (ordered_TK[:, 1:] == ordered_TK[:, :-1]) & (ordered_TK[:, 1:] >= 0)
    outside_TK = is_candidate_TK & ((ids_TK < 0) | (ids_TK >= vocabulary))
    below = f"a log-probability, at most {_ABOVE_ZERO}"
    return [
        Refusal("teacher_topk_ids_TK", outside_TK, ids_TK, f"{NO_CANDIDATE} or an id in [0, {vocabulary})"),
        Refusal("teacher_topk_ids_TK", twice_TJ, ordered_TK[:, 1:], "each id once in a row"),
        Refusal("teacher_topk_logprobs_TK", is_candidate_TK & ~(logprobs_TK <= _ABOVE_ZERO), logprobs_TK, below),
        Refusal("teacher_tail_logprob_T", is_candidate_TK.any(-1) & ~(tail_T <= _ABOVE_ZERO), tail_T, below),
    ]
