"""The table, and what is claimed from it, on runs made up so that the answer is known."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from benchmarks import quality
from benchmarks.experiments.records import Run
from benchmarks.experiments.report import PARQUET, README, read_results
from benchmarks.experiments.sizes import RESULTS, SIZES
from benchmarks.experiments.table import BEGIN, END, lines_of, markdown, replaced
from benchmarks.experiments.tuning import best_rates
from benchmarks.rivals import COMPARED, DEFAULT, ORACLE, RIVALS, SAME_TARGETS, SHUFFLED, UNIFORM
from tests.workspace import ROOT

DOMAIN = "demo-math"


def run(method: str, accuracy: float, pretrain: int = 1, distill: int = 1, **values: float) -> Run:
    given = {"accuracy": accuracy, "step_validity": 0.9, "n": 100, "optimiser_steps": 200, "supervised_tokens": 80_000}
    given |= {"generated_tokens": 1000, "learning_rate": 5e-4, "seconds": 10.0, "pool_seconds": 100.0, **values}
    return Run(
        run_id=f"{DOMAIN}/{method}/p{pretrain}/d{distill}/{given['learning_rate']:g}",
        domain=DOMAIN,
        method=method,
        pretrain_seed=pretrain,
        distill_seed=distill,
        **given,  # type: ignore[arg-type]
    )


def matrix(**means: float) -> list[Run]:
    """Ten runs a method, its mean plus what the seeds do to all methods alike, and a little to each."""
    seeds = [(pretrain, distill) for pretrain in (1, 2) for distill in range(1, 6)]
    return [
        run(name, means.get(name, 0.5) + 0.1 * pretrain + 0.001 * ((distill + len(name)) % 3), pretrain, distill)
        for name in (*COMPARED, SAME_TARGETS)
        for pretrain, distill in seeds
    ]


GOOD = {DEFAULT: 0.7, ORACLE: 0.72, "vcrd_estimated_kl": 0.7, SAME_TARGETS: 0.65, SHUFFLED: 0.64}


def claims(capsys: pytest.CaptureFixture[str], runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    monkeypatch.setattr(quality, "read_results", lambda: {run.run_id: run for run in runs})
    holds = quality.main()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert holds == all(line["holds"] for line in told)
    return {line["claim"]: line["holds"] for line in told}


def test_pairing_takes_away_what_the_seeds_do_to_all() -> None:
    lines = {line.method: line for line in lines_of(matrix(**GOOD), DOMAIN)}
    margin = lines[UNIFORM].margin
    assert margin is not None
    assert margin.mean == pytest.approx(0.2, abs=0.003)
    assert margin.high - margin.low < 0.003 < lines[UNIFORM].accuracy.high - lines[UNIFORM].accuracy.low
    assert lines[DEFAULT].margin is None
    assert lines[ORACLE].p_holm is None
    assert 0 < lines[UNIFORM].p_holm < 0.05


def test_all_claims_hold_where_all_is_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = claims(capsys, matrix(**GOOD), monkeypatch)
    assert all(found.values())
    assert sum("the default minus" in text for text in found) == len(RIVALS) + 1


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"step_filtered_4": 0.7}, "step validity"),
        ({DEFAULT: 0.66, "vcrd_estimated_kl": 0.7}, "share of the oracle's gain"),
        ({SHUFFLED: 0.68}, "shuffled minus uniform"),
        ({SAME_TARGETS: 0.71, SHUFFLED: 0.6}, "the default minus uniform strengths on the same targets"),
    ],
)
def test_a_claim_that_does_not_hold_is_told(
    change: dict[str, float], lost: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = claims(capsys, matrix(**{**GOOD, **change}), monkeypatch)
    failed = [text for text, holds in found.items() if not holds]
    assert failed
    assert any(lost in text for text in failed)


def test_unequal_cost_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    over = SIZES["full"].generated_tokens + 1
    odd = run("sft", 0.5, 3, supervised_tokens=80_001, generated_tokens=over, seconds=12.5 * 3600)
    failed = [text for text, holds in claims(capsys, [*matrix(**GOOD), odd], monkeypatch).items() if not holds]
    assert [text.split(" of ")[0] for text in failed if "default" not in text] == [
        "most supervised tokens",
        "most tokens that were generated for a run, in budgets",
        "hours",
    ]


def test_a_method_that_lacks_runs_says_so() -> None:
    some = [each for each in matrix(**GOOD) if each.method != "sft" or each.distill_seed == 1]
    text = markdown(some, (DOMAIN,))
    assert "SFT on teacher solutions (n 2)" in text or "(n 10)" in text
    assert text.startswith(BEGIN)
    assert text.endswith(END)


def test_the_table_takes_the_place_of_the_one_before() -> None:
    table = markdown(matrix(**GOOD), (DOMAIN,))
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(page, table) == f"before\n{table}\nafter\n"
    assert replaced("no marks", table) == "no marks"


def test_the_readme_has_the_table_of_the_committed_runs() -> None:
    page = (ROOT / README).read_text(encoding="utf-8")
    committed = (ROOT / RESULTS / PARQUET).is_file()
    assert (BEGIN in page) == committed, "a table in the README and runs behind it: both or neither"
    if committed:
        assert markdown(list(read_results(ROOT / RESULTS).values()), SIZES["full"].domains) in page


def test_a_learning_rate_is_chosen_by_the_development_set() -> None:
    tried = [run("sft", value, learning_rate=rate) for rate, value in ((1e-3, 0.6), (2e-3, 0.6), (5e-4, 0.4))]
    found = best_rates(tried, SIZES["dev"])
    assert found["learning_rates"] == {"sft": 1e-3}
    assert found["accuracy"] == {"sft": {"0.0005": 0.4, "0.001": 0.6, "0.002": 0.6}}
    assert found["tuned_on"] == {"set": "development", "pretrain_seed": 1, "distill_seed": 0, "n": 100}
