"""Training examples: per prefix the target step, its strength, and the tokens that learn it.

Two passes over inputs that are read some rollouts at a time. The first keeps a few numbers of every prefix, as targets
and the scale need the whole corpus; the second makes the rows.
"""

from vcrd.examples.pairs import PAIR
from vcrd.examples.passes import gather_pairs, make_examples
from vcrd.examples.summary import SUMMARY_COLUMNS, summarise_training
from vcrd.examples.targets import Targets, choose_targets, scale_of
from vcrd.examples.windows import Source

__all__ = [
    "PAIR",
    "SUMMARY_COLUMNS",
    "Source",
    "Targets",
    "choose_targets",
    "gather_pairs",
    "make_examples",
    "scale_of",
    "summarise_training",
]
