"""A demo run's validity against the exact oracle of its domain, which the run itself never sees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.engines import EngineParams, load_engine
from pipeline.layout import Layout
from vcrd.allocation import FINAL, CompletionParams, allocate, hear_round, next_round
from vcrd.calibration import CalibrationParams, choose_target, step_strength
from vcrd.completions import CompleterParams
from vcrd.domains import DOMAINS
from vcrd.io.parquet import read_rows, shard_files
from vcrd.records import (
    COMPLETIONS,
    EVIDENCE,
    LABELS,
    PROBLEMS,
    PROPOSALS,
    ROLLOUTS,
    Artefact,
    CompletionRecord,
    Evidence,
    Validity,
)
from vcrd.reliability import (
    ReliabilityModel,
    ReliabilityParams,
    fit_reliability,
    labelled_table,
    read_reliability,
)
from vcrd.tokenization import decoder
from vcrd.validity import estimate_validity
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

Floats = NDArray[np.float64]


def make_run(folder: Path, domain: str = "demo-math") -> None:
    """Run a demo up to the validity of every step, in `folder`."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "DVC_NO_ANALYTICS": "1",
    }
    for command in (
        ("dvc", "config", "--local", "core.no_scm", "true"),
        ("python", "-m", "stages", "preset", "use", domain),
        ("dvc", "repro", "--quiet", "estimate_validity"),
    ):
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)


class DemoRun:
    """What a finished demo run holds, and what is true of its steps."""

    def __init__(self, root: Path) -> None:
        """Read the run in a copy of the project."""
        self._root = root
        self.params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        self.domain = DOMAINS[self.params["preset"]]
        self._layout = Layout(self.domain.name)
        self.problems = {item.problem_id: item for item in self.read(PROBLEMS)}
        self.rollouts = {item.rollout_id: item for item in self.read(ROLLOUTS)}
        self.proposals = {item.proposal_id: item for item in self.read(PROPOSALS)}
        self.labels = self.read(LABELS)
        self.evidence = self.read(EVIDENCE)
        self.completions = self.read(COMPLETIONS)
        self.model = read_reliability(root / self._layout.folder("reliability"))

    def read(self, kind: Artefact[Any]) -> list[Any]:
        """Read an artefact."""
        return kind.parse(read_rows(shard_files(self._root / self._layout.folder(kind.name)), kind.schema))

    def is_valid(self, name: str) -> bool:
        """Ask the oracle."""
        proposal = self.proposals[name]
        rollout = self.rollouts[proposal.rollout_id]
        prompt = self.problems[proposal.problem_id].prompt
        return self.domain.step_is_valid(prompt, rollout.step_texts[: proposal.step_index], proposal.text)

    def held_out(self, rollouts: int | None = None) -> list[Evidence]:
        """Return the evidence of the train problems' steps: nothing was fitted on them."""
        names = sorted(name for name, item in self.rollouts.items() if item.split == "train")[:rollouts]
        chosen = set(names)
        return [item for item in self.evidence if item.rollout_id in chosen]

    def refit(self, evidence: Sequence[Evidence]) -> ReliabilityModel:
        """Fit the maps as the run did, on other evidence of the same steps."""
        params = ReliabilityParams(**self.params["reliability"])
        return fit_reliability(labelled_table(evidence, self.labels, "fit"), params, {})

    def estimate(
        self, evidence: Sequence[Evidence], completions: Sequence[CompletionRecord], model: ReliabilityModel
    ) -> dict[str, float]:
        """Estimate local validity as the run does."""
        v_min = self.params["completer"]["v_min"]
        found: list[Validity] = estimate_validity(self.rollouts, evidence, completions, model, v_min)
        return {item.proposal_id: item.local_validity for item in found}


def without_peer(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Take the peer reviews away."""
    return [replace(item, score_peer=None) for item in evidence]


def strength_errors(validities: Mapping[str, float], run: DemoRun) -> Floats:
    """Return |strength - true strength| of every pair, [P]; the truth is the strength under exact validity."""
    prefixes = sorted({name.rpartition("/")[0] for name in validities})
    pairs = [(f"{prefix}/teacher", f"{prefix}/student") for prefix in prefixes]
    whole = [pair for pair in pairs if all(name in validities for name in pair)]
    params = CalibrationParams(**run.params["calibration"])

    def strengths(value: Mapping[str, float]) -> Floats:
        teacher = np.array([value[name] for name, _ in whole])
        student = np.array([value[name] for _, name in whole])
        own = choose_target(teacher, student, params.own_steps)
        target, other = np.where(own, student, teacher), np.where(own, teacher, student)
        return step_strength(target, other, np.ones(len(whole)), np.zeros(len(whole), dtype=bool), params)

    truth = {name: float(run.is_valid(name)) for pair in whole for name in pair}
    return np.abs(strengths(validities) - strengths(truth))


@dataclass(frozen=True, slots=True)
class Spending:
    """What came of an allocation: its records, and how many of them were completions that had to be made."""

    records: list[CompletionRecord]
    made: int


class Spender:
    """Spends completions on some rollouts of a run, with the run's own completer."""

    def __init__(self, run: DemoRun, root: Path) -> None:
        """Load the completer."""
        self._run = run
        teacher = root / run.params["models"]["path"] / run.params["models"]["teacher"]["name"]
        self._engine = load_engine(EngineParams(**run.params["engine"]), str(teacher), None, "generate")

    def spend(
        self, evidence: Sequence[Evidence], model: ReliabilityModel, params: CompletionParams, rounds: int | None = None
    ) -> Spending:
        """Allocate and complete, for a number of rounds or until all is settled."""
        run = self._run
        verifier, decode = DomainVerifier(VerifierParams(**run.params["verifier"])), decoder(self._engine.tokenizer)
        rollouts = [run.rollouts[name] for name in sorted({item.rollout_id for item in evidence})]
        allocations = allocate(
            list(run.problems.values()),
            rollouts,
            [run.proposals[item.proposal_id] for item in evidence],
            evidence,
            model,
            verifier,
            params,
            CompleterParams(**run.params["completer"]),
        )
        done = 0
        while (rounds is None or done < rounds) and (wanted := next_round(allocations, run.params["seed"])):
            answers = self._engine.generate([request for _, request in wanted], lambda tokens: None)
            hear_round(wanted, answers, decode, verifier)
            done += 1
        records = [record for allocation in allocations for record in allocation.records]
        return Spending(records, sum(record.finish_reason != FINAL for record in records))
