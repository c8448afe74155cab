"""Verifiers against published verdicts, and a demo run's local validity against the exact oracle of its domain."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._oracle import DemoRun, Floats, Spender, make_run, strength_errors, without_peer
from benchmarks.claims import real_data, seconds, state
from tests.workspace import Workspace
from vcrd.allocation import CompletionParams
from vcrd.records import Evidence, Problem
from vcrd.reliability import brier_difference, measure
from vcrd.verifiers.arithmetic import check_arithmetic
from vcrd.verifiers.base import INVALID, VALID
from vcrd.verifiers.math import ANSWER_SECONDS, MathVerifier

_ROLLOUTS = 160
_HOSTILE = (
    "\\boxed{" + "^".join(["9"] * 12) + "}",
    "\\boxed{" + "{".join(["9^"] * 30) + "9" + "}" * 30 + "}",
    "\\boxed{" + "\\frac{1}{" * 200 + "2" + "}" * 200 + "}",
    "\\boxed{" + "\\sqrt{x+1}+" * 90_000 + "1}",
    "\\boxed{\x001\x00 + \x00}",
    "\\boxed{10^{10^{10}}!}",
    "\\boxed{\\int_0^1 x^x \\sin(x^x) dx + \\sum_{n=1}^{10^9} n^n}",
    "\\boxed{x^{999}+y^{999} = (x+y)^{999}}",
)


def main() -> bool:
    """Measure it all."""
    held = [*_answers(), *_hostile(), *_arithmetic()]
    with tempfile.TemporaryDirectory() as folder:
        root = Workspace(Path(folder) / "project").root
        make_run(root)
        run = DemoRun(root)
        held += [*_oracle(run), *_allocation(run, Spender(run, root))]
    return all(held)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _answers() -> Iterator[bool]:
    verifier = MathVerifier(None)
    if solutions := real_data("gsm8k_model_solutions", "example_model_solutions.jsonl.gz"):
        pairs = [(row, made) for row in _rows(solutions) for made in row.values() if isinstance(made, dict)]
        agree = [
            (verifier.verify_answer(_problem(row["ground_truth"]), made["solution"]).rule == VALID)
            == made["is_correct"]
            for row, made in pairs
        ]
        text = "share of model solutions of GSM8K whose answer gets the published verdict"
        yield state(text, float(np.mean(agree)), 0.995, "higher", n=len(agree))
    if problems := real_data("math500", "test.jsonl"):
        answers = [row["answer"] for row in _rows(problems)]
        right = [verifier.verify_answer(_problem(answer), answer).rule == VALID for answer in answers]
        yield state(
            "share of MATH-500 answers that equal themselves", float(np.mean(right)), 1.0, "higher", n=len(right)
        )


def _hostile() -> Iterator[bool]:
    verifier = MathVerifier(None)
    verifier.verify_answer(_problem("\\frac{1}{2}"), "\\boxed{x}")  # a worker's start is not counted
    costs = []
    for text in _HOSTILE:
        costs.append(seconds(lambda text=text: verifier.verify_answer(_problem("x"), text)) / ANSWER_SECONDS)  # type: ignore[misc]
        verifier.verify_answer(_problem("\\frac{1}{2}"), "\\boxed{x}")
    text = "dearest hostile answer, in time bounds"
    yield state(text, max(costs), 1.0, "lower", n=len(costs), spread=(min(costs), max(costs)))


def _arithmetic() -> Iterator[bool]:
    if mistakes := real_data("bigbench_mistake", "multistep_arithmetic.jsonl.gz"):
        rows = list(_rows(mistakes))
        found = [_first_flag(row["steps"]) for row in rows]
        wrong = [
            (row["mistake_index"], flag)
            for row, flag in zip(rows, found, strict=True)
            if row["mistake_index"] is not None
        ]
        at_mistake = [index == flag for index, flag in wrong]
        early = [
            flag is not None and (row["mistake_index"] is None or flag < row["mistake_index"])
            for row, flag in zip(rows, found, strict=True)
        ]
        text = "share of wrong multistep arithmetic whose first mistake is found at its step"
        yield state(text, float(np.mean(at_mistake)), 0.93, "higher", n=len(at_mistake))
        text = "share of multistep arithmetic flagged too early or wrongly"
        yield state(text, float(np.mean(early)), 0.04, "lower", n=len(early))
    for name in ("test.jsonl", "train.jsonl.gz"):
        if solutions := real_data("gsm8k", name):
            flags = []
            for row in _rows(solutions):
                lines = row["answer"].split("\n")
                flags += [
                    check_arithmetic(line, prefix="\n".join(lines[:index])).rule == INVALID
                    for index, line in enumerate(lines)
                ]
            text = f"share of GSM8K gold steps ({name.partition('.')[0]}) that are flagged"
            yield state(text, float(np.mean(flags)), 0.005, "lower", n=len(flags))


def _first_flag(steps: list[str]) -> int | None:
    for index, step in enumerate(steps):
        if check_arithmetic(step, prefix="\n".join(steps[:index])).rule == INVALID:
            return index
    return None


def _problem(reference: str) -> Problem:
    return Problem(problem_id="", domain="math", prompt="", reference=reference, split="", source="", licence="")


def _oracle(run: DemoRun) -> Iterator[bool]:
    evidence = run.held_out()
    names = [item.proposal_id for item in evidence]
    truth = np.array([float(run.is_valid(name)) for name in names])
    groups = np.array([item.problem_id for item in evidence], np.str_)

    def values(estimates: dict[str, float]) -> Floats:
        return np.array([estimates[name] for name in names])

    fused = values(run.estimate(evidence, run.completions, run.model))
    found = measure(fused, truth, groups)
    for name, bar, better in (("auroc", 0.95, "higher"), ("ece", 0.05, "lower")):
        interval = found[name]
        text = f"{name} of local validity against the oracle, held-out steps of demo-math"
        spread = (interval["low"], interval["high"])
        yield state(text, interval["value"], bar, better, n=found["n"], spread=spread)
    prm = [_only(item, score_prm=item.score_prm) for item in run.evidence]
    nothing = [_only(item) for item in run.evidence]
    chosen = set(names)
    alone = {
        "the process reward model alone, calibrated": run.estimate(
            [item for item in prm if item.proposal_id in chosen], [], run.refit(prm)
        ),
        "completions alone, calibrated": run.estimate(
            [item for item in nothing if item.proposal_id in chosen], run.completions, run.refit(nothing)
        ),
    }
    for title, estimates in alone.items():
        gap = brier_difference(fused, values(estimates), truth, groups)
        text = f"upper end of the interval of Brier(local validity) - Brier({title})"
        yield state(text, gap["high"], 0.0, "lower", n=gap["n"], spread=(gap["low"], gap["high"]))


def _only(item: Evidence, score_prm: float | None = None) -> Evidence:
    return replace(item, rule=0, score_peer=None, score_prm=score_prm)


def _allocation(run: DemoRun, spender: Spender) -> Iterator[bool]:
    """Adaptive completions against eight for every step, with all evidence and without the peer reviews."""
    adaptive = CompletionParams(**run.params["completions"])
    eight = CompletionParams(initial=8, per_round=1, budget_per_rollout=10_000, settle="order", settled_at=0.9)
    for title, change in (("all evidence", list), ("no peer reviews", without_peer)):
        evidence, model = change(run.held_out(_ROLLOUTS)), run.refit(change(run.evidence))
        ours, theirs = spender.spend(evidence, model, adaptive), spender.spend(evidence, model, eight, rounds=1)
        errors = [strength_errors(run.estimate(evidence, spent.records, model), run) for spent in (ours, theirs)]
        ratio = float(errors[0].mean() / errors[1].mean())
        text = f"error of strength by adaptive completions, in that of 8 fixed ones ({title})"
        yield state(text, ratio, 1.0, "lower", n=len(errors[0]), spread=_ratio_interval(*errors))
        text = f"completions spent adaptively, in those of 8 fixed ones ({title})"
        yield state(text, ours.made / theirs.made, 1 / 3, "lower", n=theirs.made)


def _ratio_interval(ours: Floats, theirs: Floats) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(ours), size=len(ours)) for _ in range(500)]
    low, high = np.percentile([ours[rows].mean() / theirs[rows].mean() for rows in draws], (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(not main())
