"""What a process reward model is: its parameters, and the specification that a run keeps of it (`prm.json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.files import read_json, write_json
from vcrd.models import describe_model, find_model, refuse_other_tokenizers
from vcrd.records import Model

Family = Literal["token_classification", "qwen_math_prm", "math_shepherd", "rlhflow", "skywork", "generative"]

SPEC_FILE = "prm.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Strings that a layout is made of; each must be one token of the model's tokenizer, or empty where unused."""

    tag: str
    """Ends a step."""
    positive: str
    """Label of a sound step."""
    negative: str
    """Label of a wrong one."""


_NONE = Marks(tag="", positive="", negative="")
DEFAULT_MARKS: Mapping[Family, Marks] = {
    "token_classification": _NONE,
    "qwen_math_prm": Marks(tag="<extra_0>", positive="", negative=""),
    "math_shepherd": Marks(tag="ки", positive="+", negative="-"),
    "rlhflow": Marks(tag="", positive="+", negative="-"),
    "skywork": Marks(tag="\n", positive="", negative=""),
    "generative": Marks(tag="", positive="Yes", negative="No"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrmTrainParams:
    """Backbone and schedule of a process reward model that the run trains."""

    base: Literal["student", "teacher"]
    """Whose weights it starts from."""
    stepwise: str | None
    """Steps that people labelled: rows of prompt, completions (a list of steps) and labels (a list of true or false) in
    a .jsonl[.gz] or Parquet file; they join the run's own labels."""
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
    marks: Marks | None
    """Strings of the layout where a model has others than its family's own; null: those."""
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
        marks: Strings of the layout.
    """

    family: Family
    path: str | None
    revision: str | None
    reason: str
    marks: Marks

    def located(self, folder: Path) -> str | None:
        """Return what to load."""
        return str(folder) if self.path == "." else self.path


def given_spec(params: PrmParams, path: str | None, revision: str | None, reason: str) -> PrmSpec:
    """Return the specification of a model that the parameters describe.

    Raises:
        ConfigError: The run is to train a model of another family than it can.
    """
    if params.source == "train" and params.family != "token_classification":
        raise ConfigError(
            f"prm.family is {params.family}, but a run trains token_classification models only; "
            "set it to that, or prm.source to local or hub"
        )
    marks = params.marks or DEFAULT_MARKS[params.family]
    return PrmSpec(family=params.family, path=path, revision=revision, reason=reason, marks=marks)


def find_given(params: PrmParams, models: Sequence[Model]) -> Model:
    """Look the model up that the parameters give.

    Raises:
        ConfigError: It is not there; or it is to read the run's own ids, and its tokenizer would read other text.
    """
    model = describe_model("prm", params.name or "", params.revision)
    if params.family == "token_classification":
        refuse_other_tokenizers([find_model(models, "student"), model])
    return model


def read_spec(folder: Path) -> PrmSpec:
    """Read a `prm` folder's specification.

    Raises:
        SchemaError: It is not one.
    """
    value = read_json(folder / SPEC_FILE)
    try:
        return PrmSpec(**{**value, "marks": Marks(**value["marks"])})
    except (KeyError, TypeError) as error:
        raise SchemaError(f"not a process reward model's specification ({error})", file=folder / SPEC_FILE) from error


def write_spec(folder: Path, spec: PrmSpec) -> None:
    """Write it."""
    write_json(folder / SPEC_FILE, asdict(spec))
