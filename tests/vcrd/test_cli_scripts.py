"""What scripts rely on: `--json`, exit codes and examples in the help of every verb."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from tests.vcrd.made_run import make_run
from tests.workspace import ROOT
from vcrd.cli.main import _VERBS

WITHOUT_JSON = {"card"}  # it prints a page
STUDENT = str(ROOT / "data/models/demo-math/student")


def run(verb: str, *arguments: object) -> str:
    command = importlib.import_module(_VERBS[verb][0]).command
    done = CliRunner().invoke(command, [str(item) for item in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def told(verb: str, *arguments: object) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(run(verb, *arguments, "--json"))
    return value


@pytest.mark.parametrize("verb", sorted(_VERBS))
def test_help_has_an_example_the_exit_codes_and_a_way_for_scripts(verb: str) -> None:
    said = run(verb, "--help")
    assert f"\n  vcrd {verb} " in said
    assert "Exit codes: 0 " in said
    if verb == "reliability":
        parts = [run(verb, part, "--help") for part in ("fit", "apply", "report")]
        assert all("--json" in part and f"\n  vcrd {verb} " in part for part in parts)
    else:
        assert ("--json" in said) == (verb not in WITHOUT_JSON)


def test_verify_counts_verdicts(tmp_path: Path) -> None:
    rows = [{"id": number, "prompt": "", "reference": "4", "response": f"#### {number}"} for number in range(6)]
    given = tmp_path / "in.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    out = tmp_path / "out.jsonl"
    found = told("verify", given, "--domain", "math", "-o", out, "--workers", 1)
    assert found == {"output": str(out), "rows": 7, "verdicts": {"invalid": 5, "valid": 1}, "rejected": 1}


def test_reliability_tells_its_measures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sound = rng.random(240) < 0.6
    score = 1 / (1 + np.exp(-np.where(sound, 1.5, -1.5) - rng.normal(size=240)))
    table = pl.DataFrame({"sound": sound.astype(int), "group": [f"p{index // 4}" for index in range(240)]})
    rows, model, applied = tmp_path / "rows.parquet", tmp_path / "model.json", tmp_path / "applied.parquet"
    table.with_columns(score_prm=pl.Series(score), domain=pl.lit("math")).write_parquet(rows)
    asked = ("--label", "sound", "--group", "group")
    fitted = told("reliability", "fit", rows, *asked, "-o", model)
    assert (fitted["labels"], fitted["groups"], fitted["cross_fitted"]["n"]) == (240, 60, 240)
    assert told("reliability", "apply", model, rows, "-o", applied)["unseen"] == 0
    report = told("reliability", "report", applied, *asked, "-o", tmp_path / "report")
    assert report["estimates"]["local_validity"]["auroc"]["value"] > 0.8


def test_export_and_inspect_tell_what_they_wrote(tmp_path: Path) -> None:
    training = make_run(tmp_path / "made") / "training"
    rows = pl.read_parquet(training / "*.parquet").height
    exported = told("export", training, "--to", "trl", "-o", tmp_path / "trl")
    assert exported["rows"] == rows == exported["written"] + sum(exported["rejects"].values())
    assert exported["output"] == str(tmp_path / "trl")
    page = tmp_path / "page.html"
    inspected = told("inspect", training, "-o", page, "--tokenizer", STUDENT)
    assert (inspected["output"], inspected["examples"]) == (str(page), rows)
    assert page.is_file()
