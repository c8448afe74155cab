"""The two passes over a shard of the inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.examples.pairs import PAIR, pair_up
from vcrd.examples.rows import make_rows
from vcrd.examples.targets import Targets
from vcrd.examples.windows import Source, windows
from vcrd.io.rejects import Reject
from vcrd.weights import WeightParams


def gather_pairs(source: Source, params: WeightParams) -> tuple[NDArray[np.void], int]:
    """Return what decides on the targets of a shard, of type `PAIR`, and how many prefixes there are, with the rejects.

    Args:
        source: The shard.
        params: What is rejected.

    Raises:
        SchemaError: An input is not in order, or they do not belong together.
    """
    pairs, expected = [np.empty(0, PAIR)], 0
    for window in windows(source, wide=False):
        paired = pair_up(window, params)
        pairs.append(paired.pairs)
        expected += len(paired.pairs) + len(paired.rejects)
    return np.concatenate(pairs), expected


def make_examples(
    source: Source, params: WeightParams, targets: Targets, scale: float
) -> Iterator[tuple[Iterator[pa.Table], list[Reject]]]:
    """Make the rows and rejects of a shard, a window at a time.

    Args:
        source: The shard.
        params: What is rejected, and the bound of a weight.
        targets: Of the shard's pairs.
        scale: Solved over the corpus.

    Raises:
        SchemaError: An input is not in order, or they do not belong together.
    """
    for window in windows(source, wide=True):
        paired = pair_up(window, params)
        mine, targets = targets.cut(len(paired.pairs))
        yield make_rows(paired, mine, scale, params.w_max), paired.rejects
