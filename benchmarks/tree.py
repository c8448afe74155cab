"""Prefix trees against rows: equal results, and how near the gain in training comes to the ratio of tokens.

The rows' side is the best that we know: batches of rows of one length, in which nothing is padded and attention needs
no mask. `--plot` also draws the curve for the README.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks._trees import (
    bucketed_batches,
    gradient,
    rollout_rows,
    synthetic_table,
    train_pass,
    trainable_qwen,
    tree_batches,
)
from benchmarks.claims import ROOT, claim, seconds, state
from tests.workspace import Workspace
from vcrd.training.dataset import TrainingDataset, load_training_dataset
from vcrd.training.head import add_weighted_head
from vcrd.training.packed import tree_bins
from vcrd.trees import build_trie
from vcrd.trees.support import prepare_for_trees

CURVE, CLAIMED, ROUNDS = (2, 4, 8, 16, 24, 32), (8, 24), 3
BUCKET_TOKENS = 2_048
ROLLOUTS = {2: 8, 4: 4, 8: 2}
PLOT = ROOT / "docs" / "images" / "trees.png"


def equality() -> bool:
    """Compare loss and gradients on the shards of a small demo run, in trees of a problem and row by row."""
    with tempfile.TemporaryDirectory() as place:
        run = Workspace(Path(place) / "project").small_demo()
        run.repro("calibrate_weights")
        data: Any = load_training_dataset(run.root / "data/demo-math/training")
        model = AutoModelForCausalLM.from_pretrained(run.root / "data/models/demo-math/student")
    add_weighted_head(model)
    if (reason := prepare_for_trees(model)) is not None:
        raise AssertionError(reason)
    found = tree_bins(data, None)
    losses, apart, counted = [], [], 0
    for rows in found.bins:
        table = data[rows]
        mine = table.to_pylist()
        loss = train_pass(model, [mine], trees=True)
        ours = gradient(model).clone()
        expected = train_pass(model, [[row] for row in mine], trees=False)
        theirs = gradient(model)
        # Where no row has a weight there is no gradient on either side.
        apart.append(float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)))
        losses.append(abs(loss - expected) / max(expected, 1e-12))
        counted += len({tuple(row["input_ids"][: end + 1]) for row in mine for end in range(len(row["input_ids"]))})
    held = True
    for what, found_apart in (("gradients", apart), ("losses", losses)):
        text = f"largest distance between the {what} of a problem's tree and of its rows, relative, fp32, on a demo run"
        spread = min(found_apart), max(found_apart)
        held &= state(f"{text}'s own shards", max(found_apart), 1e-5, "lower", n=len(found_apart), spread=spread)
    text = "tokens of the trees over nodes of the tries, counted as distinct prefixes: 1 exactly (distance from 1)"
    return state(text, abs(found.nodes / counted - 1), 0.0, "lower", n=len(apart)) and held


def throughput(plot: bool) -> bool:
    """Train on both sides of each workload, alternating."""
    model, held, points = trainable_qwen(), [], []
    for steps in CURVE:
        ideal, ratios, distance = _compare(model, steps, ROUNDS if steps <= max(CLAIMED) else 1)
        points.append((steps, ideal, statistics.median(ratios)))
        text = (
            f"supervised tokens/s of training on trees over rows, {steps} steps a rollout: {points[-1][2]:.2f}x, as a "
            f"share of the ideal {ideal:.2f}x (gradients {distance:.0e} apart)"
        )
        shares = [ratio / ideal for ratio in ratios]
        if steps in CLAIMED:
            held.append(claim(text, shares, 0.75, "higher"))
        else:
            sys.stderr.write(f"{text}: {statistics.median(shares):.3f}\n")
    if plot:
        _draw(points)
    return all(held)


def _compare(model: Any, steps: int, rounds: int) -> tuple[float, list[float], float]:
    """Return the ratio of tokens, the ratios of time, and how far the gradients lie apart."""
    rows = rollout_rows(steps, ROLLOUTS.get(steps, 1), seed=steps)
    trees, buckets = tree_batches(rows), bucketed_batches(rows, BUCKET_TOKENS)
    tokens = sum(len(row["input_ids"]) for row in rows)
    nodes = sum(len(build_trie([row["input_ids"] for row in batch]).token_ids) for batch in trees)
    ratios = []
    for _ in range(rounds):
        slow = seconds(partial(train_pass, model, buckets, trees=False))
        expected = gradient(model).clone()
        ratios.append(slow / seconds(partial(train_pass, model, trees, trees=True)))
    return tokens / nodes, ratios, float((gradient(model) - expected).norm() / expected.norm())


def packing() -> bool:
    """Plan the bins of a million rows, against a pass over their unique tokens at 10,000 tokens a second."""
    data = TrainingDataset(synthetic_table(125_000, 8, 400)).with_format("arrow")
    found: list[Any] = []
    took = seconds(lambda: found.append(tree_bins(data, 8_192)))
    share = took / (found[0].nodes / 10_000)
    return state("time to pack 1,000,000 rows to trees, of a training pass over their trees", share, 0.01, "lower", n=1)


def _draw(points: list[tuple[int, float, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="steps of a rollout", ylabel="times faster than rows", xticks=CURVE)
    steps, ideal, measured = zip(*points, strict=True)
    axes.plot(steps, ideal, "--", color="#555555", label="ideal: ratio of tokens")
    axes.plot(steps, measured, "o-", color="#0072b2", label="measured, prefix trees")
    axes.axhline(1, color="#bbbbbb", linewidth=1)
    axes.legend()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


def main() -> bool:
    """Make all claims."""
    torch.set_num_threads(2)
    held = [equality(), throughput("--plot" in sys.argv)]
    gc.collect()
    return all([*held, packing()])


if __name__ == "__main__":
    sys.exit(not main())
