"""Does the default beat the other methods? Told from the committed runs of `make experiments`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.claims import state
from benchmarks.experiments.records import Run
from benchmarks.experiments.report import read_results
from benchmarks.experiments.sizes import SIZES
from benchmarks.experiments.statistics import Interval, bootstrap, paired
from benchmarks.experiments.table import ByMethod, by_method, margins
from benchmarks.rivals import DEFAULT, METHODS, ORACLE, RIVALS, SAME_TARGETS, SHUFFLED, UNIFORM

_KEPT, _HOURS = 0.8, 6.0


def main() -> bool:
    """Tell it all."""
    runs = list(read_results().values())
    domains = sorted({run.domain for run in runs})
    held = [holds for domain in domains for holds in _of_domain(by_method(runs, domain), domain)]
    return all([*held, *_equal_cost(runs)])


def _of_domain(accuracies: ByMethod, domain: str) -> Iterator[bool]:
    found = margins(accuracies)
    for name in RIVALS:
        if name in found:
            yield _above(f"{domain}: the default minus {METHODS[name].title}", found[name])
    if {DEFAULT, ORACLE, UNIFORM} <= accuracies.keys():
        gains = [paired(accuracies[name], accuracies[UNIFORM]) for name in (DEFAULT, ORACLE)]
        text = f"{domain}: share of the oracle's gain over uniform that estimated validity keeps"
        yield state(text, float(gains[0].mean() / gains[1].mean()), _KEPT, "higher", n=len(gains[0]))
    if {SHUFFLED, SAME_TARGETS} <= accuracies.keys():
        over = bootstrap(paired(accuracies[SHUFFLED], accuracies[SAME_TARGETS]))
        text = f"{domain}: shuffled minus uniform strengths on the same targets, lower end of the paired 95 % interval"
        yield state(text, over.low, 0.0, "lower", n=over.n, spread=(over.low, over.high))
        yield _above(f"{domain}: the default minus uniform strengths on the same targets", found[SAME_TARGETS])


def _above(text: str, margin: Interval) -> bool:
    text += ", in accuracy, lower end of the paired 95 % interval"
    # An interval that begins at 0 is not above it.
    return state(text, margin.low, float(np.nextafter(0, 1)), "higher", n=margin.n, spread=(margin.low, margin.high))


def _equal_cost(runs: Sequence[Run]) -> Iterator[bool]:
    for name in ("optimiser_steps", "supervised_tokens"):
        values = [getattr(run, name) for run in runs]
        text = f"most {name.replace('_', ' ')} of a run over the fewest"
        yield state(text, max(values) / min(values), 1.0, "lower", n=len(runs))
    generated, budget = [run.generated_tokens for run in runs], SIZES["full"].generated_tokens
    text = f"most tokens that were generated for a run, in budgets of {budget:,}"
    yield state(text, max(generated) / budget, 1.0, "lower", n=len(runs))
    pools = {(run.domain, run.pretrain_seed, run.distill_seed): run.pool_seconds for run in runs}
    hours = (sum(run.seconds for run in runs) + sum(pools.values())) / 2 / 3600
    # bubblewrap does not wait for what it boxed, so that nobody's process times hold it.
    text = "hours of 2 cores that the committed runs and their pools took, programs inside the sandbox not counted"
    yield state(text, hours, _HOURS, "lower", n=len(runs))


if __name__ == "__main__":
    sys.exit(not main())
