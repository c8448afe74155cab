"""A prediction's loss and gradient from its few classes: the label, the teacher's candidates, and all other ids as one.

A row needs single logits of its label and its candidates alone; the others enter through their log-sum-exp and get
gradients in proportion to their probabilities. So everything but that one sum is exact here, in float64, for little.

Axis letters: C predictions of a chunk, V vocabulary, K teacher candidates, S = K + 1 slots (candidates, then label).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcrd.losses.signal import Teacher

_NEVER = float("-inf")


class Slots(NamedTuple):
    """The ids of a row that are looked at one by one, each once.

    Attributes:
        ids_CS: The label's id where a slot is empty.
        kept_CS: Slots that are not empty; a label that is a candidate has the candidate's slot.
        is_label_CS: One slot of each row.
        teacher_CS: The teacher's log-probabilities; -inf where there is no candidate.
        tail_logprob_C: The rest of the teacher's mass; -inf for none.
    """

    ids_CS: Tensor
    kept_CS: Tensor
    is_label_CS: Tensor
    teacher_CS: Tensor
    tail_logprob_C: Tensor


def slots(labels_C: Tensor, teacher: Teacher) -> Slots:
    """Lay out labels and candidates."""
    label_C1 = labels_C.long().unsqueeze(-1)
    candidate_CK = teacher.candidate_TK
    hit_CK = candidate_CK & (teacher.ids_TK == label_C1)
    alone_C1 = ~hit_CK.any(-1, keepdim=True)
    return Slots(
        torch.cat([torch.where(candidate_CK, teacher.ids_TK, label_C1), label_C1], -1),
        torch.cat([candidate_CK, alone_C1], -1),
        torch.cat([hit_CK, alone_C1], -1),
        torch.nn.functional.pad(teacher.logprobs_TK, (0, 1), value=_NEVER),
        teacher.tail_logprob_T,
    )


class Classes(NamedTuple):
    """Student and teacher on the classes of a row.

    Attributes:
        student_CS: Student's log-probability of each slot; -inf where it is empty.
        rest_C: Student's log-probability of all ids without a slot.
        tail_C: Student's log-probability of all ids that are no candidates: the label may be among them.
        teacher_mass_C: Teacher's probabilities, summed over the candidates.
        kl_share_C: kl_coef, 0 where there is no candidate.
    """

    student_CS: Tensor
    rest_C: Tensor
    tail_C: Tensor
    teacher_mass_C: Tensor
    kl_share_C: Tensor


def classes(logits_CS: Tensor, rest_C: Tensor, places: Slots, kl_coef: float) -> Classes:
    """Return the classes from the slots' logits and the log-sum-exp of all others."""
    logits_CS = logits_CS.masked_fill(~places.kept_CS, _NEVER)
    student_CX = torch.cat([logits_CS, rest_C.unsqueeze(-1)], -1).log_softmax(-1)
    candidate_CX = torch.nn.functional.pad(places.teacher_CS > _NEVER, (0, 1))
    return Classes(
        student_CX[:, :-1],
        student_CX[:, -1],
        student_CX.masked_fill(candidate_CX, _NEVER).logsumexp(-1),
        places.teacher_CS.exp().sum(-1),
        candidate_CX.any(-1).to(logits_CS.dtype) * kl_coef,
    )


def nll(student: Classes, places: Slots) -> Tensor:
    """Return -log q(label), [C]."""
    return -student.student_CS.masked_fill(~places.is_label_CS, 0.0).sum(-1)


def kl(student: Classes, places: Slots) -> Tensor:
    """Return the divergence over candidates and tail bucket, [C]; 0 where there is no candidate."""
    candidate_CS, teacher_CS = places.teacher_CS > _NEVER, places.teacher_CS
    gap_CS = torch.where(candidate_CS, teacher_CS - student.student_CS, 0.0)
    tail_C = places.tail_logprob_C
    bucket_C = torch.where(tail_C > _NEVER, tail_C.exp() * (tail_C - student.tail_C), 0.0)
    return torch.where(candidate_CS.any(-1), (teacher_CS.exp() * gap_CS).sum(-1) + bucket_C, 0.0)


def gradients(student: Classes, places: Slots) -> tuple[Tensor, Tensor]:
    """Return the loss's gradient in each slot's logit, [C, S], and summed over all other ids, [C].

    The other ids share theirs in proportion to their probabilities.
    """
    share_C = student.kl_share_C
    tail_mass_C = torch.where(share_C > 0, places.tail_logprob_C.exp(), 0.0)
    # 1 unless the teacher's numbers were rounded: the gradient is that of the loss as it stands.
    total_C = student.teacher_mass_C + tail_mass_C

    def of_tail(logprob: Tensor, mass: Tensor, tail: Tensor) -> Tensor:
        """Spread the teacher's tail over ids as the student spreads its own: a ratio in logs cannot overflow."""
        return torch.where(mass > 0, mass * (logprob - tail).exp(), 0.0)

    rest_C = student.rest_C.exp()
    hard_C, soft_C = rest_C, total_C * rest_C - of_tail(student.rest_C, tail_mass_C, student.tail_C)
    share_C1, total_C1, mass_C1, tail_C1 = (
        each.unsqueeze(-1) for each in (share_C, total_C, tail_mass_C, student.tail_C)
    )
    student_CS, teacher_CS = student.student_CS, places.teacher_CS
    target_CS = torch.where(teacher_CS > _NEVER, teacher_CS.exp(), of_tail(student_CS, mass_C1, tail_C1))
    # The label's q - 1 as expm1: next to 1 the difference would be rounding alone.
    hard_CS = torch.where(places.is_label_CS, student_CS.expm1(), student_CS.exp())
    soft_CS = total_C1 * student_CS.exp() - target_CS
    slots_CS = (1 - share_C1) * hard_CS + share_C1 * soft_CS
    return slots_CS.masked_fill(~places.kept_CS, 0.0), (1 - share_C) * hard_C + share_C * soft_C
