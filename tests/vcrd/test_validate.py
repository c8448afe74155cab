"""`vcrd validate`: passes what a run wrote, and finds what was done to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.vcrd.corruptions import set_last
from tests.vcrd.made_run import Row, mend_manifest, rewrite
from tests.vcrd.test_cli import vcrd
from vcrd.errors import ConfigError
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.parquet import read_table, shard_files
from vcrd.validate import Findings, validate


def faults(folder: Path) -> list[str]:
    return [str(fault) for item in validate(folder) for fault in item.faults]


def of_training(run: Path) -> Findings:
    return validate(run / "training")[0]


def test_what_a_run_wrote_holds_in_every_check(made: Path) -> None:
    found = {item.artefact: item for item in validate(made)}
    assert {name: item.faults for name, item in found.items()} == {name: [] for name in found}
    training = found["training"]
    statuses = {name: training.status(name) for name in training.checks}
    assert set(statuses.values()) == {"holds"}
    assert set(statuses) == {
        "manifest",
        "checksums",
        "schema",
        "keys",
        "row order",
        "tokenizer",
        "lengths",
        "labels",
        "weights",
        "mean weight",
        "weight scale",
        "vocabulary",
        "teacher signal",
        "ids",
        "validities",
        "targets",
        "strengths",
        "prefixes",
        "steps",
        "validities beside",
    }


def test_what_cannot_be_checked_is_said(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "training", alone)
    (alone / MANIFEST_NAME).unlink()
    [found] = validate(alone)
    unknown = {"manifest", "checksums", "tokenizer", "prefixes", "steps", "validities beside", "targets", "strengths"}
    plain = "teacher_topk_ids" in read_table(shard_files(alone)[0]).column_names
    assert not found.faults
    assert {name for name in found.checks if found.status(name) == "not checked"} == unknown | (
        {"vocabulary"} if plain else set()
    )


def test_a_fault_names_file_column_and_row(run: Path) -> None:
    shard = shard_files(run / "training")[1]

    def change(rows: list[Row]) -> list[Row]:
        set_last(rows[7], "token_weights", float("nan"))
        return rows

    rewrite(shard, change)
    mend_manifest(run / "training")
    told = faults(run)
    assert "file part-00001.parquet, column token_weights, row 7: expected a finite weight >= 0" in told


def test_other_artefacts_get_what_all_have(run: Path) -> None:
    rewrite(shard_files(run / "validity")[0], lambda rows: [rows[1], rows[0], rows[1], *rows[2:]])
    mend_manifest(run / "validity")
    found = next(item for item in validate(run) if item.artefact == "validity")
    assert {name: found.status(name) for name in ("keys", "row order", "manifest", "checksums")} == {
        "keys": "fails",
        "row order": "fails",
        "manifest": "fails",
        "checksums": "holds",
    }
    (run / "rollouts/extra.json").write_text("{}")
    assert "file extra.json: is not named in the manifest" in faults(run)


def test_a_folder_without_data_is_a_users_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError):
            validate(folder)


def test_the_command_ends_with_0_2_or_3(run: Path, tmp_path: Path) -> None:
    assert "holds       prefixes" in vcrd("validate", run).stdout
    assert json.loads(vcrd("validate", run, "--json").stdout)["ok"] is True
    vcrd("validate", tmp_path / "none", expect=2)
    shard_files(run / "training")[0].unlink()
    done = vcrd("validate", run / "training", "--json", expect=3)
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["artefacts"][0]["faults"][0]["file"] == "part-00000.parquet"
    assert "named in the manifest but missing" in done.stderr


@pytest.mark.parametrize("strength", [0.0, float("inf")])
def test_weights_without_a_strength_behind_them_are_found(run: Path, strength: float) -> None:
    for path in shard_files(run / "training"):
        rewrite(path, lambda rows: [{**row, "step_strength": strength} for row in rows])
    mend_manifest(run / "training")
    assert of_training(run).status("weight scale") == "fails"


@pytest.mark.parametrize(
    "change",
    [
        {"artefact": "other"},
        {"artefact": []},
        {"provenance": []},
        {"provenance": {"params": 5}},
        {"provenance": {"params": {"weights": 5, "calibration": {"tau": -1}}}},
        {"provenance": {"params": {"weights": {"w_max": "x"}}}},
        {"files": [{"file": 5, "sha256": "", "fingerprint": ""}]},
    ],
)
def test_a_manifest_may_say_anything(run: Path, change: Row) -> None:
    manifest = json.loads((run / "training" / MANIFEST_NAME).read_text())
    (run / "training" / MANIFEST_NAME).write_text(json.dumps({**manifest, **change}, indent=2) + "\n")
    assert of_training(run).status("manifest") == "fails"


def test_links_into_a_cache_are_as_good_as_files(run: Path, tmp_path: Path) -> None:
    for path in shard_files(run / "training"):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert faults(run / "training") == []
    (tmp_path / shard_files(run / "training")[0].name).unlink()
    assert "named in the manifest but missing" in faults(run / "training")[0]
