"""Claims of `python -m stages plan`: a demo run is planned by a probe and then run, in one sitting.

The run has half the demo's problems, other ones each time, so that three of them fit into a quarter of an hour; its
shape, models and parameters are the demo's. Its stages are run one after another by their own command lines.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.claims import claim, seconds
from pipeline.cli import stages_of
from pipeline.graph import stage_order
from tests.workspace import Workspace
from vcrd.io.files import read_json

SIZES = {"train": 160, "prm": 40, "fit": 25, "judge": 15, "test": 500}
PROBE, SEEDS = 10, (11, 12, 13)
WRITERS = ("generate_rollouts", "propose_steps", "label_steps", "complete_steps")
_ASKED = re.compile(r"of ([\d,]+) prompt tokens computed")


def predictions() -> bool:
    """Plan and run three times; state the medians of both relative errors."""
    tokens, times = [], []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as place:
            planned, made = _plan_and_run(Path(place) / "project", seed)
        tokens.append(abs(planned[0] / made[0] - 1))
        times.append(abs(planned[1] / made[1] - 1))
        said = f"seed {seed}: {planned[0]:,.0f} tokens planned, {made[0]:,.0f} in the run; "
        sys.stderr.write(f"{said}{planned[1]:.0f} s planned, {made[1]:.0f} s taken\n")
    whole = f"a demo run of {sum(SIZES.values())} problems, planned by a probe of {PROBE} of each split"
    text = f"relative error of the tokens that engines read and write in {whole} (evaluation left out)"
    holds = claim(text, tokens, 0.1, "lower")
    text = f"relative error of the time of {whole} (all stages, by their command lines)"
    return claim(text, times, 0.3, "lower") and holds


def _plan_and_run(root: Path, seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return tokens and seconds, planned and measured."""
    run = Workspace(root)
    card = f"generator: demo-math\nn_terms: 4\ncount: {sum(SIZES.values())}\nseed: {seed}\n"
    (root / "data/inputs/half.yaml").write_text(card, encoding="utf-8")
    splits = "{" + ", ".join(f"{split}: {count}" for split, count in SIZES.items()) + "}"
    run.use("demo-math", **{"problems.path": "data/inputs/half.yaml", "problems.splits": splits})
    done = run.run("python", "-m", "stages", "plan", "--json", "--probe", str(PROBE), "--workers", "2")
    if done.returncode:
        raise AssertionError(done.stderr)
    plan = json.loads(done.stdout)
    asked = [stage for stage in plan["stages"] if stage["sharded"]]
    planned = float(sum(stage["read"] + stage["written"] for stage in asked)), float(plan["seconds"])
    said: list[str] = []
    taken = seconds(lambda: said.extend(run.check("python", "-m", f"stages.{name}") for name in _order()))
    read = sum(int(count.replace(",", "")) for text in said for count in _ASKED.findall(text))
    times = {name: read_json(root / f".vcrd/timings/demo-math/{name}.json") for name in WRITERS}
    return planned, (float(read + sum(times[name]["tokens"] for name in WRITERS)), taken)


def _order() -> list[str]:
    return stage_order(stages_of("stages"))
