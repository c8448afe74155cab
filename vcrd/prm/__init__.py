"""Process reward models: one specification for six families, how a solution is laid out for one, its scores read back.

| family | layout | score of a step |
|---|---|---|
| `token_classification` | the run's own ids | class 1 at the step's last token |
| `qwen_math_prm` | a chat turn, each step ending in `<extra_0>` | class 1 at the tag |
| `math_shepherd` | plain text, each step ending in ` ки` | `+` against `-` at the tag |
| `rlhflow` | a chat of steps, each answered by `+` | `+` against `-` where the answer is predicted |
| `skywork` | plain lines | sigmoid of a value head at the newline that ends the step |
| `generative` | a question per step | `Yes` against `No` as its answer |

One pass over a trajectory scores all its steps (models are causal: what follows a step changes nothing of its score);
`generative` asks once per step.
"""

from vcrd.prm.layout import Laid, StepLayout
from vcrd.prm.rows import PrmRow, describe_labels, stepwise_rows, training_rows
from vcrd.prm.scores import read_scores, score_requests
from vcrd.prm.spec import (
    DEFAULT_MARKS,
    SPEC_FILE,
    Family,
    Marks,
    PrmParams,
    PrmSpec,
    PrmTrainParams,
    find_given,
    given_spec,
    read_spec,
    write_spec,
)

__all__ = [
    "DEFAULT_MARKS",
    "SPEC_FILE",
    "Family",
    "Laid",
    "Marks",
    "PrmParams",
    "PrmRow",
    "PrmSpec",
    "PrmTrainParams",
    "StepLayout",
    "describe_labels",
    "find_given",
    "given_spec",
    "read_scores",
    "read_spec",
    "score_requests",
    "stepwise_rows",
    "training_rows",
    "write_spec",
]
