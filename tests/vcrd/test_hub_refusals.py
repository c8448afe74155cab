"""What push and pull refuse, and what they leave as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from tests.hub_server import TOKEN, Hub, Repo
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run, mend_manifest, rewrite
from vcrd.errors import ConfigError, SchemaError
from vcrd.hub import collect
from vcrd.hub.index import CARD, INDEX
from vcrd.io.files import read_json, sealed, write_json
from vcrd.io.parquet import read_schema, shard_files

REPO = "org/made"
FEW = ("--only", "training")


def test_nothing_is_published_by_chance(hub: Hub, user: User, small_run: Path) -> None:
    user.check("push", small_run, REPO, "--only", "validity", "--public")
    before = len(hub.repos[REPO].commits)
    done = user.vcrd("push", small_run, REPO)
    assert done.rc == 2
    assert "say so with --public" in done.out
    assert len(hub.repos[REPO].commits) == before


def test_a_repository_of_something_else_is_not_pushed_over(hub: Hub, user: User, small_run: Path) -> None:
    theirs = {"README.md": ("regular", b"card"), "models/net.safetensors": ("lfs", b"net")}
    hub.repos[REPO] = Repo(private=True, commits=[("1" * 40, theirs)])
    done = user.vcrd("push", small_run, REPO)
    assert (done.rc, "models/net.safetensors" in done.out) == (2, True)
    assert hub.files(REPO) == {name: data for name, (_, data) in theirs.items()}


def test_bad_data_an_unknown_licence_and_a_wrong_name_are_not_pushed(hub: Hub, user: User, tmp_path: Path) -> None:
    bad = make_run(tmp_path / "bad" / "made")
    rewrite(shard_files(bad / "training")[0], lambda rows: [{**row, "step_strength": 0.123} for row in rows])
    mend_manifest(bad / "training")
    done = user.vcrd("push", bad, REPO)
    assert (done.rc, "training is bad and nothing was pushed" in done.out) == (3, True)
    unknown = make_run(tmp_path / "unknown" / "made", licence="unknown")
    done = user.vcrd("push", unknown, REPO)
    assert (done.rc, "--licence" in done.out) == (2, True)
    assert user.vcrd("push", unknown, "no-org", "--licence", "mit").rc == 2
    assert user.vcrd("push", tmp_path / "unknown", REPO).rc == 2
    assert not hub.repos
    user.check("push", unknown, REPO, "--licence", "cc-by-4.0")
    assert DatasetCard(hub.files(REPO)[CARD].decode()).data.license == "cc-by-4.0"


def test_without_a_token_the_hub_says_what_to_do_and_no_output_holds_one(
    hub: Hub, user: User, small_run: Path, tmp_path: Path
) -> None:
    done = user.vcrd("pull", "org/none", tmp_path / "made")
    assert (done.rc, "hf auth login" in done.out) == (2, True)
    assert TOKEN not in done.out + user.check("push", small_run, REPO)
    for name, data in hub.files(REPO).items():
        assert TOKEN.encode() not in data, name


def test_a_name_that_is_not_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        collect(Path("nowhere"))


def test_a_run_whose_file_differs_is_refused(small_run: Path) -> None:
    shutil.copyfile(shard_files(small_run / "training")[0], shard_files(small_run / "training")[1])
    with pytest.raises(SchemaError, match="checksum"):
        collect(small_run)


@pytest.mark.parametrize("name", [INDEX, "training/part-00000.parquet", CARD])
def test_a_hub_that_gives_no_file_is_no_data_set_that_was_not_pushed(
    hub: Hub, user: User, small_run: Path, tmp_path: Path, name: str
) -> None:
    user.check("push", small_run, REPO, *FEW)
    hub.refused = name
    try:
        done = user.vcrd("pull", REPO, tmp_path / "made")
    finally:
        hub.refused = None
    assert (done.rc, "run the same command again" in done.out) == (2, True), done.out
    assert not (tmp_path / "made").exists()
    user.check("pull", REPO, tmp_path / "made")
    assert (tmp_path / "made" / CARD).is_file()


def test_a_pull_that_cannot_begin_leaves_nothing_behind(user: User, small_run: Path, tmp_path: Path) -> None:
    user.check("push", small_run, REPO, *FEW)
    done = user.vcrd("pull", REPO, tmp_path / "new" / "made", "--revision", "nosuch")
    assert (done.rc, "no such revision" in done.out) == (2, True)
    assert user.vcrd("pull", "org/none", tmp_path / "new" / "made").rc == 2
    assert not (tmp_path / "new").exists()
    here = tmp_path / "here" / "inner"
    here.mkdir(parents=True)
    for folder in (".", ".."):
        done = user.vcrd("pull", REPO, folder, "--overwrite", cwd=here)
        assert (done.rc, "the folder you are in" in done.out) == (2, True)
    assert not any(here.iterdir())


def test_links_beside_the_folder_are_not_followed(user: User, small_run: Path, tmp_path: Path) -> None:
    user.check("push", small_run, REPO)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert user.vcrd("pull", REPO, tmp_path / "link").rc == 2
    assert not any((tmp_path / "elsewhere").iterdir())


def test_what_arrives_changed_is_refused(hub: Hub, user: User, small_run: Path, tmp_path: Path) -> None:
    user.check("push", small_run, REPO)
    tree = hub.repos[REPO].commits[-1][1]
    name = "training/part-00000.parquet"
    tree[name] = ("lfs", tree[name][1][:-5] + b"wrong")
    done = user.vcrd("pull", REPO, tmp_path / "made")
    assert (done.rc, name in done.out) == (3, True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["problems", "models", "rollouts", "proposals", "validity", "training"])
def test_every_table_is_validated_before_anything_is_sent(hub: Hub, user: User, small_run: Path, name: str) -> None:
    """A row twice, under a manifest with fitting checksums: only who looks at the keys can tell."""
    rewrite(shard_files(small_run / name)[0], lambda rows: [rows[0], *rows])
    mend_manifest(small_run / name)
    done = user.vcrd("push", small_run, REPO)
    assert (done.rc, f"{name} is bad and nothing was pushed" in done.out) == (3, True), done.out
    assert not hub.requests


def test_an_older_schema_and_a_forged_manifest_are_not_pushed(hub: Hub, user: User, small_run: Path) -> None:
    shard = shard_files(small_run / "validity")[0]
    manifest = small_run / "validity/_manifest.json"
    before = shard.read_bytes(), read_json(manifest)
    rewrite(shard, lambda rows: rows, columns=read_schema(shard).names[:-1])
    mend_manifest(small_run / "validity")
    assert user.vcrd("push", small_run, REPO).rc == 3
    shard.write_bytes(before[0])
    del before[1]["sha256"]
    write_json(manifest, sealed({**before[1], "rejects": {"x": 1}}))
    done = user.vcrd("push", small_run, REPO)
    assert (done.rc, "validity is bad" in done.out) == (3, True), done.out
    assert not hub.requests
