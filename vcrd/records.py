"""The records of a run: a dataclass per artefact beside its Arrow schema and key.

Lists of per-token values are 32-bit lists. Token offsets are exclusive ends into `token_ids`, character offsets into
the text. `rule`, `outcome` and verdicts are numbers: 1 valid, 0 abstain, -1 invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pyarrow as pa

from vcrd.requests import FloatArray

IGNORED = -100
"""The label of a token that is not learned."""

T = TypeVar("T")

_TEXT, _FLAG, _FLOAT, _INT, _SMALL = pa.string(), pa.bool_(), pa.float32(), pa.int32(), pa.int8()
_INTS, _FLOATS, _FLAGS = pa.list_(_INT), pa.list_(_FLOAT), pa.list_(_FLAG)
_TOPK_IDS, _TOPK_LOGPROBS = pa.list_(_INTS), pa.list_(_FLOATS)


@dataclass(frozen=True)
class Artefact(Generic[T]):
    """A kind of data set: its folder's name, the record of a row, the unique key, the schema."""

    name: str
    record: type[T]
    key: str
    schema: pa.Schema

    def parse(self, rows: Iterable[dict[str, Any]]) -> list[T]:
        """Turn rows into records."""
        return [self.record(**row) for row in rows]


def _schema(optional: Sequence[str] = (), **columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in optional) for name, kind in columns.items()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A data set item; `responses` are finished rollouts that the user brought."""

    problem_id: str
    domain: str
    prompt: str
    reference: str | None
    split: str
    source: str
    licence: str
    responses: list[str] = field(default_factory=list)


PROBLEMS = Artefact(
    "problems",
    Problem,
    "problem_id",
    _schema(
        ["reference"],
        problem_id=_TEXT,
        domain=_TEXT,
        prompt=_TEXT,
        reference=_TEXT,
        split=_TEXT,
        source=_TEXT,
        licence=_TEXT,
        responses=pa.list_(_TEXT),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A role's model; fingerprints are of content, so that moving a folder changes nothing."""

    role: str
    name: str
    revision: str | None
    weights_fingerprint: str
    tokenizer_fingerprint: str
    vocabulary_size: int
    chat_template_fingerprint: str


MODELS = Artefact(
    "models",
    Model,
    "role",
    _schema(
        ["revision"],
        role=_TEXT,
        name=_TEXT,
        revision=_TEXT,
        weights_fingerprint=_TEXT,
        tokenizer_fingerprint=_TEXT,
        vocabulary_size=_INT,
        chat_template_fingerprint=_TEXT,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A sampled solution, cut into steps; tokens behind the last step end are an unfinished step."""

    rollout_id: str
    problem_id: str
    split: str
    domain: str
    prompt_ids: list[int]
    token_ids: list[int]
    step_ends: list[int]
    step_char_ends: list[int]
    step_verdicts: list[int]
    logprobs: FloatArray | list[float]
    text: str
    finish_reason: str
    outcome: int

    @property
    def step_texts(self) -> list[str]:
        """The steps' texts."""
        starts = [0, *self.step_char_ends]
        return [self.text[start:end] for start, end in zip(starts, self.step_char_ends, strict=False)]

    def prefix_ids(self, step_index: int) -> list[int]:
        """Ids of the prompt and of the steps before `step_index`."""
        end = self.step_ends[step_index - 1] if step_index else 0
        return [*self.prompt_ids, *self.token_ids[:end]]

    def step_ids(self, step_index: int) -> list[int]:
        """Ids of one step."""
        start = self.step_ends[step_index - 1] if step_index else 0
        return self.token_ids[start : self.step_ends[step_index]]


ROLLOUTS = Artefact(
    "rollouts",
    Rollout,
    "rollout_id",
    _schema(
        rollout_id=_TEXT,
        problem_id=_TEXT,
        split=_TEXT,
        domain=_TEXT,
        prompt_ids=_INTS,
        token_ids=_INTS,
        step_ends=_INTS,
        step_char_ends=_INTS,
        step_verdicts=pa.list_(_SMALL),
        logprobs=_FLOATS,
        text=_TEXT,
        finish_reason=_TEXT,
        outcome=_SMALL,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProposal:
    """A next step under a prefix; a token without teacher signal has an empty inner list and tail 0 (all the mass)."""

    proposal_id: str
    prefix_id: str
    rollout_id: str
    problem_id: str
    split: str
    domain: str
    step_index: int
    proposer: str
    token_ids: list[int]
    text: str
    logprobs: FloatArray | list[float]
    topk_ids: Sequence[Sequence[int]]
    topk_logprobs: Sequence[Sequence[float]]
    tail_logprob: Sequence[float]
    finish_reason: str


PROPOSALS = Artefact(
    "proposals",
    StepProposal,
    "proposal_id",
    _schema(
        proposal_id=_TEXT,
        prefix_id=_TEXT,
        rollout_id=_TEXT,
        problem_id=_TEXT,
        split=_TEXT,
        domain=_TEXT,
        step_index=_INT,
        proposer=_TEXT,
        token_ids=_INTS,
        text=_TEXT,
        logprobs=_FLOATS,
        topk_ids=_TOPK_IDS,
        topk_logprobs=_TOPK_LOGPROBS,
        tail_logprob=_FLOATS,
        finish_reason=_TEXT,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledStep:
    """A labelled step: `before` and `after` are the outcomes that made the label, `outcomes` independent later ones."""

    proposal_id: str
    prefix_id: str
    problem_id: str
    split: str
    domain: str
    proposer: str
    label: int | None
    label_reason: str
    before: list[bool]
    after: list[bool]
    outcomes: list[bool]


LABELS = Artefact(
    "labels",
    LabelledStep,
    "proposal_id",
    _schema(
        ["label"],
        proposal_id=_TEXT,
        prefix_id=_TEXT,
        problem_id=_TEXT,
        split=_TEXT,
        domain=_TEXT,
        proposer=_TEXT,
        label=_SMALL,
        label_reason=_TEXT,
        before=_FLAGS,
        after=_FLAGS,
        outcomes=_FLAGS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReview:
    """Log-probabilities of a step's tokens under the model that did not propose it; or why there are none."""

    proposal_id: str
    problem_id: str
    logprobs: list[float]
    missing: str


_REVIEW_SCHEMA = _schema(proposal_id=_TEXT, problem_id=_TEXT, logprobs=_FLOATS, missing=_TEXT)
STUDENT_REVIEWS = Artefact("student_reviews", PeerReview, "proposal_id", _REVIEW_SCHEMA)
TEACHER_REVIEWS = Artefact("teacher_reviews", PeerReview, "proposal_id", _REVIEW_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What rules, the process reward model and the other proposer say of a proposal; `*_missing` is why not."""

    proposal_id: str
    prefix_id: str
    rollout_id: str
    problem_id: str
    split: str
    domain: str
    proposer: str
    step_index: int
    position: float
    rule: int
    rule_reason: str
    score_prm: float | None
    prm_missing: str
    score_peer: float | None
    peer_missing: str


EVIDENCE = Artefact(
    "evidence",
    Evidence,
    "proposal_id",
    _schema(
        ["score_prm", "score_peer"],
        proposal_id=_TEXT,
        prefix_id=_TEXT,
        rollout_id=_TEXT,
        problem_id=_TEXT,
        split=_TEXT,
        domain=_TEXT,
        proposer=_TEXT,
        step_index=_INT,
        position=_FLOAT,
        rule=_SMALL,
        rule_reason=_TEXT,
        score_prm=_FLOAT,
        prm_missing=_TEXT,
        score_peer=_FLOAT,
        peer_missing=_TEXT,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRecord:
    """A Monte-Carlo completion of prefix + step to an answer."""

    completion_id: str
    proposal_id: str
    round: int
    token_ids: list[int]
    finish_reason: str
    outcome: int


COMPLETIONS = Artefact(
    "completions",
    CompletionRecord,
    "completion_id",
    _schema(completion_id=_TEXT, proposal_id=_TEXT, round=_INT, token_ids=_INTS, finish_reason=_TEXT, outcome=_SMALL),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """All evidence of a proposal and its local validity."""

    proposal_id: str
    prefix_id: str
    rollout_id: str
    problem_id: str
    domain: str
    step_index: int
    proposer: str
    position: float
    rule: int
    rule_reason: str
    score_prm: float | None
    score_peer: float | None
    successes: int
    trials: int
    local_validity: float
    local_validity_sd: float
    prefix_broken: bool


VALIDITY = Artefact(
    "validity",
    Validity,
    "proposal_id",
    _schema(
        ["score_prm", "score_peer"],
        proposal_id=_TEXT,
        prefix_id=_TEXT,
        rollout_id=_TEXT,
        problem_id=_TEXT,
        domain=_TEXT,
        step_index=_INT,
        proposer=_TEXT,
        position=_FLOAT,
        rule=_SMALL,
        rule_reason=_TEXT,
        score_prm=_FLOAT,
        score_peer=_FLOAT,
        successes=_INT,
        trials=_INT,
        local_validity=_FLOAT,
        local_validity_sd=_FLOAT,
        prefix_broken=_FLAG,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """Prefix and target step; index i of every per-token column describes token i of `input_ids`."""

    example_id: str
    rollout_id: str
    problem_id: str
    domain: str
    step_index: int
    target: str
    input_ids: list[int]
    labels: list[int]
    token_weights: list[float]
    teacher_topk_ids: Sequence[Sequence[int]]
    teacher_topk_logprobs: Sequence[Sequence[float]]
    teacher_tail_logprob: Sequence[float]
    student_step: str
    teacher_step: str
    student_validity: float
    teacher_validity: float
    relative_validity: float
    target_value: float
    step_strength: float


def _training_schema(**signal: pa.DataType) -> pa.Schema:
    return _schema(
        example_id=_TEXT,
        rollout_id=_TEXT,
        problem_id=_TEXT,
        domain=_TEXT,
        step_index=_INT,
        target=_TEXT,
        input_ids=_INTS,
        labels=_INTS,
        token_weights=_FLOATS,
        **signal,
        student_step=_TEXT,
        teacher_step=_TEXT,
        student_validity=_FLOAT,
        teacher_validity=_FLOAT,
        relative_validity=_FLOAT,
        target_value=_FLOAT,
        step_strength=_FLOAT,
    )


TRAINING = Artefact(
    "training",
    TrainingExample,
    "example_id",
    _training_schema(teacher_topk_ids=_TOPK_IDS, teacher_topk_logprobs=_TOPK_LOGPROBS, teacher_tail_logprob=_FLOATS),
)

TOKENIZER_KEY = b"vcrd.tokenizer"
"""In the metadata of a training shard's schema: fingerprint of the tokenizer that the ids are of."""

# The other form of the same rows: `vcrd.storage` turns either into the other.
COMPACT_TRAINING_SCHEMA = _training_schema(teacher_k=pa.list_(pa.uint16()), teacher_signal=pa.binary())


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedProblem:
    """A model's greedy answer to a test problem; `oracle_steps` only where the domain has an exact oracle."""

    evaluation_id: str
    problem_id: str
    model: str
    text: str
    finish_reason: str
    outcome: int
    oracle_steps: list[bool]


EVALUATION = Artefact(
    "evaluation",
    EvaluatedProblem,
    "evaluation_id",
    _schema(
        evaluation_id=_TEXT,
        problem_id=_TEXT,
        model=_TEXT,
        text=_TEXT,
        finish_reason=_TEXT,
        outcome=_SMALL,
        oracle_steps=_FLAGS,
    ),
)

ARTEFACTS: tuple[Artefact[Any], ...] = (
    PROBLEMS,
    MODELS,
    ROLLOUTS,
    PROPOSALS,
    LABELS,
    STUDENT_REVIEWS,
    TEACHER_REVIEWS,
    EVIDENCE,
    COMPLETIONS,
    VALIDITY,
    TRAINING,
    EVALUATION,
)
