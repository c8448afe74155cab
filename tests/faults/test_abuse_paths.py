"""No path leads elsewhere: not one in parameters, in a source card, or in pulled data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.params import parse_settings, read_yaml, set_values
from tests.hub_server import Hub
from tests.vcrd.hub_users import User
from tests.workspace import ROOT
from vcrd.errors import ConfigError, SchemaError
from vcrd.hub.contents import collect
from vcrd.hub.index import INDEX, Entry, check_folder
from vcrd.io.files import sealed
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.sources import read_card, read_hub_rows
from vcrd.models import ModelParams, RoleParams, locate

REPO = "org/made"
DEMO = read_yaml(ROOT / "presets/demo-math.yaml")
ESCAPES = ["../outside", "/tmp/outside", "..", ".", "a/../../outside", "a\\..\\b", ".hidden", "", "a\nb", "a\x00b"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_preset_names_a_folder_of_its_own(name: str) -> None:
    kept = {key: DEMO[key] for key in ("seed", "run")}
    with pytest.raises(ConfigError, match="preset: expected letters, digits"):
        parse_settings({**kept, "preset": name}, {}, "params.yaml")
    assert parse_settings(set_values({**kept, "preset": "x"}, ["preset=demo-math.v2"]), {}, "").preset == "demo-math.v2"


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", ".."])
def test_a_local_model_lies_in_the_folder_of_models(tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/config.json").write_text("{}")
    role = RoleParams(source="local", name=name, revision=None)
    params = ModelParams(path=str(tmp_path / "models"), student=role, teacher=role, completer=None, pretrain=None)
    with pytest.raises(ConfigError, match="leads out of"):
        locate("student", params, tmp_path)


@pytest.mark.parametrize("name", ["../data", "/etc", ".", "data/inputs", "a/b/c", "https://x.y/z", 5, None, ["a"]])
def test_a_card_names_a_data_set_of_the_hub_and_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: object
) -> None:
    monkeypatch.chdir(ROOT)
    card = tmp_path / "card.yaml"
    card.write_text(json.dumps({"hub": name, "config": None, "split": "train", "revision": "main"}))
    with pytest.raises(ConfigError, match=r"must give .* as text, hub as org/name"):
        list(read_hub_rows(read_card(card)))


@pytest.fixture
def tree(hub: Hub, user: User, small_run: Path) -> dict:
    """What a reader of a pushed run sees; to be changed."""
    user.check("push", small_run, REPO)
    return hub.repos[REPO].commits[-1][1]


def _with_manifest(tree: dict, name: str) -> None:
    """Let a manifest name a file elsewhere, and the index tell the truth about that manifest."""
    where = f"training/{MANIFEST_NAME}"
    manifest = json.loads(tree[where][1])
    manifest["files"][0]["file"] = name
    data = json.dumps(sealed({key: value for key, value in manifest.items() if key != "sha256"})).encode()
    index = json.loads(tree[INDEX][1])
    index["files"][where] = {"sha256": Entry.of(data).sha256, "size": len(data)}
    tree[where] = ("regular", data)
    tree[INDEX] = ("regular", json.dumps(index).encode())


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname"])
def test_a_pulled_manifest_does_not_lead_out_of_its_folder(user: User, tmp_path: Path, tree: dict, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").write_text("kept")
    _with_manifest(tree, name)
    done = user.vcrd("pull", REPO, tmp_path / "in" / "made")
    assert (done.rc, "unsafe path" in done.out) == (3, True), done.out
    assert not (tmp_path / "in" / "made").exists()
    assert (tmp_path / "outside").read_text() == "kept"


@pytest.mark.parametrize("folder", ["../x", "/tmp/x", "data/../../x"])
def test_a_pulled_index_restores_no_lock_elsewhere(user: User, tmp_path: Path, tree: dict, folder: str) -> None:
    index = json.loads(tree[INDEX][1])
    index["folder"] = folder
    tree[INDEX] = ("regular", json.dumps(index).encode())
    (tmp_path / "clone/data").mkdir(parents=True)
    (tmp_path / "clone/dvc.yaml").write_text("stages: {}\n")
    done = user.vcrd("pull", REPO, tmp_path / "clone/data/made")
    assert (done.rc, "unsafe path" in done.out) == (3, True), done.out
    assert not (tmp_path / "clone/dvc.lock").exists()


def test_links_in_data_are_no_files_of_it(user: User, tmp_path: Path, tree: dict) -> None:
    """A link may come by an archive, or by git: the Hub's client writes what it points to as text."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "made"
    user.check("pull", REPO, folder)
    shard = next(folder.glob("training/*.parquet"))
    shard.rename(tmp_path / "moved.parquet")
    shard.symlink_to(tmp_path / "moved.parquet")
    with pytest.raises(SchemaError, match="no plain file"):
        check_folder(folder)
    shard.unlink()
    shard.symlink_to(secret)
    with pytest.raises(SchemaError, match="differs from the manifest"):
        collect(folder)
    done = user.vcrd("push", folder, "org/another")
    assert (done.rc, "secret" in done.out) == (3, False), done.out
