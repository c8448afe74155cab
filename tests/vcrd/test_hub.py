"""Push and pull against a stand-in for the Hub: byte for byte, in one commit, and again for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from datasets import Features, load_dataset, load_dataset_builder
from huggingface_hub import DatasetCard

from tests.hub_server import Hub
from tests.vcrd.hub_users import User, files_of
from vcrd.hub.index import CARD, INDEX, Index
from vcrd.io.manifest import read_manifest, write_manifest
from vcrd.io.parquet import read_table, shard_files
from vcrd.records import TRAINING

REPO = "org/made"


def test_a_round_trip_gives_the_same_bytes_and_load_dataset_the_same_rows(
    hub: Hub, user: User, made: Path, tmp_path: Path
) -> None:
    user.check("push", made, REPO)
    user.check("pull", REPO, tmp_path / "pulled")
    pulled = files_of(tmp_path / "pulled")
    assert pulled == hub.files(REPO)
    for name, data in files_of(made).items():
        assert pulled[name] == data, name
    card = DatasetCard.load(tmp_path / "pulled" / CARD)
    configs = {item["config_name"] for item in card.data["configs"]}
    assert configs == {path.name for path in made.iterdir()}
    from_hub = json.loads(user.check("load", REPO, tmp_path / "from-hub").splitlines()[-1])
    assert set(from_hub) == configs
    for name in configs:
        tables = [read_table(path) for path in shard_files(made / name)]
        rows = [row for part in tables for row in part.to_pylist()]
        features = Features.from_arrow_schema(tables[0].schema.remove_metadata())
        loaded = load_dataset(str(tmp_path / "pulled"), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert (loaded.features, loaded.to_list()) == (features, rows)
        assert from_hub[name] == {"features": str(features), "rows": json.loads(json.dumps(rows, default=repr))}
    default = load_dataset_builder(str(tmp_path / "pulled"), cache_dir=str(tmp_path / "cache"))
    assert default.config.name == TRAINING.name
    assert "holds" in user.check("validate", tmp_path / "pulled")


def test_a_push_is_one_commit_and_a_second_one_none(hub: Hub, user: User, small_run: Path) -> None:
    told = json.loads(user.check("push", small_run, REPO, "--json"))
    assert told["private"] is True
    assert told["uploaded"] == told["files"] == len(hub.files(REPO))
    assert len(hub.repos[REPO].commits) == 2
    again = json.loads(user.check("push", small_run, REPO, "--json"))
    assert (again["uploaded"], again["commit"]) == (0, told["commit"])
    assert len(hub.repos[REPO].commits) == 2


def test_a_push_replaces_what_was_ours_and_leaves_the_rest(hub: Hub, user: User, small_run: Path) -> None:
    user.check("push", small_run, REPO)
    hub.repos[REPO].commits[-1][1]["notes.txt"] = ("regular", b"somebody's")
    (gone := shard_files(small_run / "problems")[1]).unlink()
    manifest = read_manifest(small_run / "problems")
    kept = [entry for entry in manifest.files if entry.file != gone.name]
    write_manifest(small_run / "problems", replace(manifest, files=kept))
    user.check("push", small_run, REPO)
    assert not [name for name in hub.files(REPO) if name == f"problems/{gone.name}"]
    assert "notes.txt" in hub.files(REPO)


def test_a_push_without_some_tables_removes_them_only_when_told(hub: Hub, user: User, small_run: Path) -> None:
    user.check("push", small_run, REPO)
    hub.repos[REPO].commits[-1][1]["notes.txt"] = ("regular", b"somebody's")
    before = hub.files(REPO)
    done = user.vcrd("push", small_run, REPO, "--only", "training")
    assert (done.rc, "problems, proposals, rollouts, validity" in done.out, "--prune" in done.out) == (2, True, True)
    assert hub.files(REPO) == before
    user.check("push", small_run, REPO, "--only", "training", "--prune")
    left = set(hub.files(REPO))
    assert "notes.txt" in left
    assert {name.partition("/")[0] for name in left if "/" in name} == {"training", "models", "plots"}


def test_a_pull_again_downloads_nothing_and_another_folder_is_not_overwritten(
    user: User, small_run: Path, tmp_path: Path
) -> None:
    user.check("push", small_run, REPO)
    folder = tmp_path / "made"
    user.check("pull", REPO, folder)
    assert json.loads(user.check("pull", REPO, folder, "--json"))["downloaded"] == 0
    (folder / INDEX).write_text("{}")
    done = user.vcrd("pull", REPO, folder)
    assert (done.rc, "--overwrite" in done.out) == (2, True)
    assert (folder / INDEX).read_text() == "{}"
    user.check("pull", REPO, folder, "--overwrite")
    assert Index.parse((folder / INDEX).read_text(), INDEX).files


def test_a_folder_may_be_given_from_inside(user: User, small_run: Path) -> None:
    assert user.check("card", ".", cwd=small_run / "training") == user.check("card", small_run / "training")


def test_somebody_elses_push_in_between_is_not_overwritten(hub: Hub, user: User, small_run: Path) -> None:
    user.check("push", small_run, REPO, "--only", "training")
    commits = hub.repos[REPO].commits

    def another(moment: str, request: str) -> None:
        if "/preupload/" in request and moment == "before" and len(commits) == 2:
            commits.append(("2" * 40, {**commits[-1][1], "theirs.txt": ("regular", b"x")}))

    done = user.vcrd("push", small_run, REPO, also=another)
    assert (done.rc, "run the same command again" in done.out) == (2, True)
    user.check("push", small_run, REPO)
    assert "theirs.txt" in hub.files(REPO)
