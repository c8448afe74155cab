"""Fuse all evidence of a proposal into its local validity."""

from __future__ import annotations

from typing import Any

from pipeline.cli import stage_main
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.completions import CompleterParams
from vcrd.records import COMPLETIONS, EVIDENCE, ROLLOUTS, VALIDITY
from vcrd.reliability import read_reliability
from vcrd.validity import estimate_validity

RELIABILITY = "reliability"


def load(context: Context) -> Any:
    """Read the maps."""
    return read_reliability(context.inputs.folder(RELIABILITY))


def work(loaded: Any, shard: Shard) -> ShardResult:
    """Estimate."""
    rollouts = {rollout.rollout_id: rollout for rollout in shard.read(ROLLOUTS)}
    evidence = [item for item in shard.read(EVIDENCE) if item.split == "train"]
    v_min = shard.context.settings.get(CompleterParams).v_min
    estimated = estimate_validity(rollouts, evidence, shard.read(COMPLETIONS), loaded, v_min)
    return ShardResult(estimated, [], expected=len(evidence))


STAGE = ShardedStage(
    name="estimate_validity",
    version=2,
    sections={"completer": CompleterParams},
    output=VALIDITY.name,
    kind=VALIDITY,
    sharded_inputs=(ROLLOUTS, EVIDENCE, COMPLETIONS),
    whole_inputs=(RELIABILITY,),
    load=load,
    work=work,
    sample_kind=EVIDENCE,
    splits=("train",),
)

if __name__ == "__main__":
    stage_main("stages.estimate_validity")
