"""The `vcrd` command on files: rows in, rows out, nothing lost, and errors a user can act on."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest


def vcrd(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vcrd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verify(tmp_path: Path, domain: str, *rows: object, expect: int = 0, options: tuple = ()) -> list[dict]:
    given, found = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    vcrd("verify", given, "--domain", domain, "-o", found, *options, expect=expect)
    return lines(found) if found.exists() else []


def test_math_outputs_get_a_verdict_on_the_answer_and_on_every_step(tmp_path: Path) -> None:
    row = {"id": 7, "prompt": "3 bags of 4?", "reference": "12", "response": "3 * 4 = 12\nso 12 + 1 = 14\n#### 12"}
    right, unknown, given = verify(
        tmp_path,
        "math",
        row,
        {**row, "id": "no reference", "reference": None},
        {**row, "id": "given", "response": "the answer is 13", "steps": ["2 + 2 = 4", "4 + 4 = 9, or so"]},
    )
    assert (right["id"], right["verdict"]) == (7, "valid")
    assert "".join(step["text"] for step in right["steps"]) == row["response"]
    assert [step["verdict"] for step in right["steps"]] == ["abstain", "invalid", "abstain"]
    assert (unknown["verdict"], unknown["steps"]) == ("abstain", right["steps"])
    assert given["verdict"] == "invalid"
    assert [step["text"] for step in given["steps"]] == ["2 + 2 = 4", "4 + 4 = 9, or so"]
    assert [step["verdict"] for step in given["steps"]] == ["abstain", "invalid"]


def test_arithmetic_in_steps_may_hold_modulo_an_integer(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "", "reference": None, "response": "7 + 8 = 5"}
    assert verify(tmp_path, "math", row)[0]["steps"][0]["verdict"] == "invalid"
    assert verify(tmp_path, "math", row, options=("--modulus", 10))[0]["steps"][0]["verdict"] == "abstain"


def test_code_outputs_run_their_tests_in_the_sandbox(tmp_path: Path) -> None:
    reference = {"tests": "assert double(2) == 4", "entry_point": "double"}
    row = {"prompt": "double it", "reference": reference}
    right, wrong, cut = verify(
        tmp_path,
        "code",
        {**row, "id": 1, "response": "def double(x):\n    return 2 * x\n"},
        {**row, "id": 2, "response": "def double(x):\n    return x * x * x\n"},
        {**row, "id": 3, "response": "", "steps": ["def double(x):\n", "    return ) 2\n"]},
    )
    assert [item["verdict"] for item in (right, wrong, cut)] == ["valid", "invalid", "invalid"]
    assert [step["verdict"] for step in cut["steps"]] == ["abstain", "invalid"]


def test_instructions_are_told_one_by_one(tmp_path: Path) -> None:
    reference = {
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"relation": "at least", "num_words": 3}],
    }
    row = {"id": "a", "prompt": "write", "reference": reference, "response": "Well, this is it. It is short."}
    [judged] = verify(tmp_path, "instructions", row)
    assert judged["verdict"] == "invalid"
    assert [(item["id"], item["strict"]) for item in judged["instructions"]] == [
        ("punctuation:no_comma", False),
        ("length_constraints:number_words", True),
    ]
    assert [step["verdict"] for step in judged["steps"]] == ["invalid", "abstain"]


def test_order_is_kept_whatever_the_number_of_workers(tmp_path: Path) -> None:
    rows = [
        {"id": index, "prompt": "", "reference": str(index % 7), "response": f"#### {index % 5}"}
        for index in range(100)
    ]
    one = verify(tmp_path, "math", *rows, options=("--workers", 1))
    assert [row["id"] for row in one] == list(range(100))
    assert verify(tmp_path, "math", *rows, options=("--workers", 3)) == one


def test_a_row_that_cannot_be_read_is_kept_with_its_reason(tmp_path: Path) -> None:
    good = {"id": 1, "prompt": "", "reference": "1", "response": "#### 1"}
    bad = ["{not json", {"id": 2}, {**good, "id": None}, {**good, "id": 3, "steps": "one"}, {**good, "reference": {}}]
    assert len(verify(tmp_path, "math", good, *bad)) == 1
    rejects = lines(tmp_path / "out.jsonl.rejects.jsonl")
    assert [item["place"] for item in rejects] == [f"line {number}" for number in range(2, 7)]
    assert "expected a string, got None" in rejects[1]["error"]
    assert "column steps" in rejects[3]["error"]
    assert verify(tmp_path, "math", "[]", expect=3) == []


def test_errors_are_one_line_and_say_what_to_do(tmp_path: Path) -> None:
    assert (
        "no such file"
        in vcrd("verify", tmp_path / "no.jsonl", "--domain", "math", "-o", tmp_path / "o", expect=2).stderr
    )
    evidence = tmp_path / "evidence.parquet"
    pl.DataFrame({"label": [1, 0], "problem": ["a", "b"]}).write_parquet(evidence)
    mistyped = vcrd("reliability", "fit", evidence, "--label", "lable", "--group", "problem", "-o", "m.json", expect=2)
    assert "did you mean 'label'" in mistyped.stderr
    few = vcrd("reliability", "fit", evidence, "--label", "label", "--group", "problem", "-o", "m.json", expect=2)
    assert "at least 20" in few.stderr


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps of 200 problems with an over-confident score, a verdict now and then, completions for most."""
    rng = np.random.default_rng(5)
    count = 1200
    sound = rng.random(count) < 0.7
    trials = rng.integers(0, 7, count)
    table = pl.DataFrame(
        {
            "note": [f"row {index}" for index in range(count)],
            "problem": [f"p{index // 6}" for index in range(count)],
            "prefix_id": [f"x{index // 2}" for index in range(count)],
            "sound": sound.astype(int),
            "score_prm": 1 / (1 + np.exp(-3 * (np.where(sound, 1.2, -1.0) + 1.2 * rng.normal(size=count)))),
            "rule": np.where(~sound & (rng.random(count) < 0.2), -1, 0),
            "successes": rng.binomial(trials, np.where(sound, 0.7, 0.2)),
            "trials": trials,
            "domain": ["math"] * count,
        }
    ).with_columns(score_prm=pl.when(pl.int_range(pl.len()) % 5 > 0).then("score_prm"))
    path = tmp_path_factory.mktemp("evidence") / "evidence.parquet"
    table.write_parquet(path)
    return path


def test_reliability_is_fitted_applied_and_measured(evidence: Path, tmp_path: Path) -> None:
    model, applied, folder = tmp_path / "model.json", tmp_path / "applied.parquet", tmp_path / "report"
    asked = ("--label", "sound", "--group", "problem")
    vcrd("reliability", "fit", evidence, *asked, "-o", model)
    provenance = json.loads(model.read_text())["provenance"]
    assert (provenance["labels"], provenance["groups"], provenance["label"]) == (1200, 200, "sound")
    assert "warning" not in vcrd("reliability", "apply", model, evidence, "-o", applied).stderr
    before, after = pl.read_parquet(evidence), pl.read_parquet(applied)
    assert after.drop("local_validity", "local_validity_sd").equals(before)
    assert after["local_validity"].is_between(0, 1).all()
    assert after["local_validity_sd"].is_between(0, 0.5).all()
    assert after.filter(rule=-1)["local_validity"].max() <= 0.05
    vcrd("reliability", "report", applied, *asked, "-o", folder)
    found = json.loads((folder / "report.json").read_text())["estimates"]
    assert set(found) == {"local_validity", "score_prm", "completions", "cross_fitted"}
    assert found["cross_fitted"]["brier"]["high"] < found["score_prm"]["brier"]["low"]
    assert found["cross_fitted"]["ece"]["value"] < 0.05
    assert found["local_validity"]["pairs"]["accuracy"] > 0.8
    assert (folder / "reliability.png").read_bytes().startswith(b"\x89PNG")
    bins = pl.read_csv(folder / "reliability.csv").filter(estimate="local_validity")
    assert bins["n"].sum() == 1200


def test_a_model_used_outside_its_domain_says_so(evidence: Path, tmp_path: Path) -> None:
    model, other = tmp_path / "model.json", tmp_path / "other.parquet"
    vcrd("reliability", "fit", evidence, "--label", "sound", "--group", "problem", "-o", model)
    pl.read_parquet(evidence).with_columns(domain=pl.lit("code")).write_parquet(other)
    assert (
        "1200 rows are of a domain" in vcrd("reliability", "apply", model, other, "-o", tmp_path / "o.parquet").stderr
    )


def test_a_fit_says_what_it_could_not_do(evidence: Path, tmp_path: Path) -> None:
    model, other = tmp_path / "model.json", tmp_path / "other.parquet"
    asked = ("reliability", "fit", other, "--label", "sound", "--group", "problem", "-o", model)
    rows = pl.read_parquet(evidence)
    rows.with_columns(problem=pl.when(pl.int_range(pl.len()) != 7).then("problem")).write_parquet(other)
    assert "column problem, row 7" in vcrd(*asked, expect=3).stderr
    rows.with_columns(rule=pl.when(pl.int_range(pl.len()) < 10).then(0).otherwise(-1)).write_parquet(other)
    assert "nothing could be fitted" in vcrd(*asked, expect=2).stderr
    assert not model.exists()
    rows.with_columns(problem=pl.lit("p")).write_parquet(other)
    assert "nothing could be cross-fitted" in vcrd(*asked).stdout
    assert json.loads(model.read_text())["cross_fitted"]["n"] == 0
    model.write_text('{"format": "vcrd-reliability/1"}')
    assert "without 'n0'" in vcrd("reliability", "apply", model, other, "-o", tmp_path / "o.parquet", expect=3).stderr


def test_on_real_solutions_verdicts_agree_with_the_published_ones(real_data: Path, tmp_path: Path) -> None:
    rows, published = [], []
    with gzip.open(real_data / "gsm8k_model_solutions/example_model_solutions.jsonl.gz", "rt") as file:
        for number, row in enumerate(map(json.loads, file)):
            for name, made in row.items():
                if isinstance(made, dict) and number % 10 == 0:
                    rows.append({"id": f"{number}/{name}", "prompt": row["question"], "reference": row["ground_truth"]})
                    rows[-1]["response"] = made["solution"]
                    published.append(made["is_correct"])
    judged = verify(tmp_path, "math", *rows)
    agree = [(row["verdict"] == "valid") == right for row, right in zip(judged, published, strict=True)]
    assert np.mean(agree) >= 0.995


def test_half_a_surrogate_pair_costs_no_other_row_its_verdict(tmp_path: Path) -> None:
    broken = '{"id": 1, "prompt": "p", "reference": "4", "response": "\\ud800 \\\\boxed{4}"}'
    found = verify(tmp_path, "math", broken, {"id": 2, "prompt": "p", "reference": "4", "response": "#### 4"})
    assert [(row["id"], row["verdict"]) for row in found] == [(1, "valid"), (2, "valid")]
    assert found[0]["steps"][0]["text"] == "\ud800 \\boxed{4}"
