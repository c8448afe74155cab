"""Training examples: per prefix the target step, its strength, and the tokens that learn it.

Two passes over inputs that are read some rollouts at a time. The first keeps a few numbers of every prefix, as targets
and the scale need the whole corpus; the second makes the rows.
"""

from vcrd.examples.pairs import PAIR
from vcrd.examples.passes import gather_pairs, make_examples
from vcrd.examples.summary import BINS, SUMMARY_COLUMNS, SignalCounts, count_signal, signal_figures, summarise_training
from vcrd.examples.targets import Targets, choose_targets, scale_of
from vcrd.examples.windows import Source

__all__ = [
    "BINS",
    "PAIR",
    "SUMMARY_COLUMNS",
    "SignalCounts",
    "Source",
    "Targets",
    "choose_targets",
    "count_signal",
    "gather_pairs",
    "make_examples",
    "scale_of",
    "signal_figures",
    "summarise_training",
]
