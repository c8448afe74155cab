"""A killed engine: another takes its shard up, in smaller batches from the second time on, and three times at most."""

from pathlib import Path

import pytest

from benchmarks.faults.engine_death import STAGE, VICTIM, VLLM, MortalDemo, failed, survived


def test_three_kills_in_a_shard_are_survived_and_the_fourth_keeps_what_is_finished(tmp_path: Path) -> None:
    calm = MortalDemo(tmp_path / "calm", {})
    calm.make(STAGE.name)
    faults, agreement = survived(tmp_path / "survived", calm)
    assert faults == []
    assert (agreement.answers, agreement.apart) == (100, 0)
    assert agreement.logprob <= 1e-4
    faults, resumed = failed(tmp_path / "failed")
    assert faults == []
    assert resumed.digests("rollouts") == calm.digests("rollouts")


@pytest.mark.slow
@pytest.mark.usefixtures("needs_vllm")
def test_a_killed_core_of_vllm_costs_a_restart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    demo = MortalDemo(tmp_path / "demo", {VICTIM: 1}, *VLLM, "run.num_shards=2", count=24)
    manifest = demo.make(STAGE.name)
    assert (manifest.rows, manifest.expected) == (24, 24)
    assert demo.begun(VICTIM) == ["16", "16"]
    assert f"{VICTIM} lost its worker with 4 requests in flight (" in capfd.readouterr().err
