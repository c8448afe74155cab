"""Push and pull against a stand-in for the Hub: byte for byte, all or nothing, whatever is killed when."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Features, load_dataset, load_dataset_builder
from huggingface_hub import DatasetCard

from tests.hub_server import TOKEN, Hub, Repo
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run, mend_manifest, rewrite
from vcrd.errors import ConfigError, SchemaError
from vcrd.hub import collect
from vcrd.hub.columns import COLUMNS, ROWS
from vcrd.hub.contents import CARD, INDEX, Index, safe_path
from vcrd.io.parquet import read_table, shard_files
from vcrd.records import ARTEFACTS, COMPACT_TRAINING_SCHEMA, TRAINING

REPO = "org/made"
POINTS = 10
FEW = ("--only", "training")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def user(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    user = User(hub, tmp_path_factory.mktemp("home"))
    yield user
    user.close()


@pytest.fixture(autouse=True)
def empty(hub: Hub) -> None:
    hub.repos.clear()
    hub.objects.clear()
    hub.requests.clear()


@pytest.fixture(scope="module", params=["plain", "compact"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp(request.param) / "made", signal=request.param)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run" / "made", count=6)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_trip_gives_the_same_bytes_and_load_dataset_the_same_rows(
    hub: Hub, user: User, made: Path, tmp_path: Path
) -> None:
    user.check("push", made, REPO)
    user.check("pull", REPO, tmp_path / "pulled")
    pulled = bytes_of(tmp_path / "pulled")
    assert pulled == hub.files(REPO)
    for name, data in bytes_of(made).items():
        assert pulled[name] == data, name
    card = DatasetCard.load(tmp_path / "pulled" / CARD)
    configs = {item["config_name"] for item in card.data["configs"]}
    assert configs == {path.name for path in made.iterdir()}
    for name in configs:
        table = [read_table(path) for path in shard_files(made / name)]
        loaded = load_dataset(str(tmp_path / "pulled"), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.features == Features.from_arrow_schema(table[0].schema.remove_metadata())
        assert loaded.to_list() == [row for part in table for row in part.to_pylist()]
    default = load_dataset_builder(str(tmp_path / "pulled"), cache_dir=str(tmp_path / "cache"))
    assert default.config.name == TRAINING.name
    assert "holds" in user.check("validate", tmp_path / "pulled")


def test_the_cards_metadata_goes_through_the_hubs_own_classes_and_back(user: User, made: Path, tmp_path: Path) -> None:
    user.check("card", made, "--repo", REPO, "-o", tmp_path / CARD)
    text = (tmp_path / CARD).read_text(encoding="utf-8")
    card = DatasetCard.load(tmp_path / CARD)
    assert card.data.license == "cc0-1.0"
    assert card.data.size_categories == ["n<1K"]
    card.save(tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == text
    assert DatasetCard(text).data.to_dict() == card.data.to_dict()


def test_a_card_says_what_every_column_and_table_is() -> None:
    assert set(COLUMNS) == set(TRAINING.schema.names) | set(COMPACT_TRAINING_SCHEMA.names)
    assert set(ROWS) == {kind.name for kind in ARTEFACTS}


def test_names_in_a_card_are_text(user: User, tmp_path: Path) -> None:
    run = make_run(tmp_path / "made", licence="Our | own <b>licence</b>")
    card = DatasetCard(user.check("card", run))
    assert card.data.license == "other"
    assert "<b>" not in card.text.replace("\\<b", "")


def test_nothing_is_published_by_chance(hub: Hub, user: User, run: Path) -> None:
    user.check("push", run, REPO, "--only", "validity", "--public")
    before = len(hub.repos[REPO].commits)
    done = user.vcrd("push", run, REPO)
    assert done.rc == 2
    assert "say so with --public" in done.out
    assert len(hub.repos[REPO].commits) == before


def test_a_push_is_one_commit_and_a_second_one_none(hub: Hub, user: User, run: Path) -> None:
    told = json.loads(user.check("push", run, REPO, "--json"))
    assert told["private"] is True
    assert told["uploaded"] == told["files"] == len(hub.files(REPO))
    assert len(hub.repos[REPO].commits) == 2
    again = json.loads(user.check("push", run, REPO, "--json"))
    assert (again["uploaded"], again["commit"]) == (0, told["commit"])
    assert len(hub.repos[REPO].commits) == 2


def test_a_push_replaces_what_was_ours_and_leaves_the_rest(hub: Hub, user: User, run: Path) -> None:
    user.check("push", run, REPO)
    hub.repos[REPO].commits[-1][1]["notes.txt"] = ("regular", b"somebody's")
    user.check("push", run, REPO, "--only", "training")
    left = set(hub.files(REPO))
    assert "notes.txt" in left
    assert {name.partition("/")[0] for name in left if "/" in name} == {"training", "models", "plots"}


def test_a_repository_of_something_else_is_not_pushed_over(hub: Hub, user: User, run: Path) -> None:
    theirs = {"README.md": ("regular", b"card"), "models/net.safetensors": ("lfs", b"net")}
    hub.repos[REPO] = Repo(private=True, commits=[("1" * 40, theirs)])
    done = user.vcrd("push", run, REPO)
    assert (done.rc, "models/net.safetensors" in done.out) == (2, True)
    assert hub.files(REPO) == {name: data for name, (_, data) in theirs.items()}


def test_killed_pushes_are_never_seen_by_half_and_the_next_one_finishes(
    hub: Hub, user: User, run: Path, tmp_path: Path
) -> None:
    user.check("push", run, REPO, *FEW)
    whole, requests = hub.files(REPO), len(hub.requests)
    commits = [index for index, request in enumerate(hub.requests, 1) if "/commit/" in request]
    points = sorted({1 + index * (requests - 1) // (POINTS - 2) for index in range(POINTS - 1)} | set(commits))
    assert len(points) >= POINTS - 1
    for moment, kill_at in [*(("before", point) for point in points), ("behind", commits[0])]:
        hub.repos.clear()
        hub.objects.clear()
        done = user.vcrd("push", run, REPO, *FEW, kill_at=kill_at, moment=moment)
        assert done.rc == -9, (moment, kill_at, done.out)
        assert hub.files(REPO) in ({}, whole), (moment, kill_at)
        there = len(hub.objects)
        sent = len(hub.requests)
        user.check("push", run, REPO, *FEW)
        assert hub.files(REPO) == whole
        puts = [request for request in hub.requests[sent:] if request.startswith("PUT")]
        assert len(puts) == len(hub.objects) - there
        assert len(hub.repos[REPO].commits) == 2


def test_killed_pulls_are_never_seen_by_half_and_the_next_one_finishes(
    hub: Hub, user: User, run: Path, tmp_path: Path
) -> None:
    user.check("push", run, REPO, *FEW)
    hub.requests.clear()
    user.check("pull", REPO, tmp_path / "first" / "made")
    whole, requests = bytes_of(tmp_path / "first" / "made"), len(hub.requests)
    for index in range(POINTS):
        kill_at = 1 + index * (requests - 1) // (POINTS - 1)
        folder = tmp_path / f"k{kill_at}" / "made"
        done = user.vcrd("pull", REPO, folder, kill_at=kill_at)
        assert done.rc == -9, (kill_at, done.out)
        assert not folder.exists()
        hub.requests.clear()
        user.check("pull", REPO, folder)
        assert len(hub.requests) <= requests - kill_at + 6
        assert bytes_of(folder) == whole
        assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_a_pull_again_downloads_nothing_and_another_folder_is_not_overwritten(
    user: User, run: Path, tmp_path: Path
) -> None:
    user.check("push", run, REPO)
    folder = tmp_path / "made"
    user.check("pull", REPO, folder)
    assert json.loads(user.check("pull", REPO, folder, "--json"))["downloaded"] == 0
    (folder / INDEX).write_text("{}")
    done = user.vcrd("pull", REPO, folder)
    assert (done.rc, "--overwrite" in done.out) == (2, True)
    assert (folder / INDEX).read_text() == "{}"
    user.check("pull", REPO, folder, "--overwrite")
    assert Index.parse((folder / INDEX).read_text(), INDEX).files


def test_what_arrives_changed_is_refused(hub: Hub, user: User, run: Path, tmp_path: Path) -> None:
    user.check("push", run, REPO)
    tree = hub.repos[REPO].commits[-1][1]
    name = "training/part-00000.parquet"
    tree[name] = ("lfs", tree[name][1][:-5] + b"wrong")
    done = user.vcrd("pull", REPO, tmp_path / "made")
    assert (done.rc, name in done.out) == (3, True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name", ["../outside", "/outside", "a/../../outside", ".git/config", "a\\b", "a//b", "", "a/.", "a\x1b[2J", "a\nb"]
)
def test_unsafe_paths_are_refused(hub: Hub, user: User, run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SchemaError, match="unsafe"):
        safe_path(name, INDEX)
    user.check("push", run, REPO)
    tree = hub.repos[REPO].commits[-1][1]
    index = json.loads(tree[INDEX][1])
    index["files"][name] = index["files"]["lock.yaml" if "lock.yaml" in index["files"] else "training/_manifest.json"]
    tree[INDEX] = ("regular", json.dumps(index).encode())
    done = user.vcrd("pull", REPO, tmp_path / "in" / "made")
    assert (done.rc, "unsafe" in done.out) == (3, True)
    assert not (tmp_path / "in" / "made").exists()
    assert not (tmp_path / "outside").exists()


def test_a_file_that_would_be_a_folder_is_refused() -> None:
    entry = {"sha256": "0", "size": 1}
    index = {"format": "vcrd-dataset/1", "folder": None, "files": {"a/b/c": entry, "a/b": entry}}
    with pytest.raises(SchemaError, match="unsafe"):
        Index.parse(json.dumps(index), INDEX)


def test_links_beside_the_folder_are_not_followed(user: User, run: Path, tmp_path: Path) -> None:
    user.check("push", run, REPO)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert user.vcrd("pull", REPO, tmp_path / "link").rc == 2
    assert not any((tmp_path / "elsewhere").iterdir())


def test_bad_data_an_unknown_licence_and_a_wrong_name_are_not_pushed(hub: Hub, user: User, tmp_path: Path) -> None:
    bad = make_run(tmp_path / "bad" / "made")
    rewrite(shard_files(bad / "training")[0], lambda rows: [{**row, "step_strength": 0.123} for row in rows])
    mend_manifest(bad / "training")
    done = user.vcrd("push", bad, REPO)
    assert (done.rc, "not pushed" in done.out) == (3, True)
    unknown = make_run(tmp_path / "unknown" / "made", licence="unknown")
    done = user.vcrd("push", unknown, REPO)
    assert (done.rc, "--licence" in done.out) == (2, True)
    assert user.vcrd("push", unknown, "no-org", "--licence", "mit").rc == 2
    assert user.vcrd("push", tmp_path / "unknown", REPO).rc == 2
    assert not hub.repos
    user.check("push", unknown, REPO, "--licence", "cc-by-4.0")
    assert DatasetCard(hub.files(REPO)[CARD].decode()).data.license == "cc-by-4.0"


def test_somebody_elses_push_in_between_is_not_overwritten(hub: Hub, user: User, run: Path) -> None:
    user.check("push", run, REPO, "--only", "training")
    commits = hub.repos[REPO].commits

    def another(moment: str, request: str) -> None:
        if "/preupload/" in request and moment == "before" and len(commits) == 2:
            commits.append(("2" * 40, {**commits[-1][1], "theirs.txt": ("regular", b"x")}))

    done = user.vcrd("push", run, REPO, also=another)
    assert (done.rc, "run the same command again" in done.out) == (2, True)
    user.check("push", run, REPO)
    assert "theirs.txt" in hub.files(REPO)


def test_without_a_token_the_hub_says_what_to_do_and_no_output_holds_one(
    hub: Hub, user: User, run: Path, tmp_path: Path
) -> None:
    done = user.vcrd("pull", "org/none", tmp_path / "made")
    assert (done.rc, "hf auth login" in done.out) == (2, True)
    assert TOKEN not in done.out + user.check("push", run, REPO)
    for name, data in hub.files(REPO).items():
        assert TOKEN.encode() not in data, name


def test_a_name_that_is_not_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        collect(Path("nowhere"))


def test_a_run_whose_file_differs_is_refused(run: Path) -> None:
    shutil.copyfile(shard_files(run / "training")[0], shard_files(run / "training")[1])
    with pytest.raises(SchemaError, match="checksum"):
        collect(run)


@pytest.mark.parametrize("name", [INDEX, "training/part-00000.parquet", CARD])
def test_a_hub_that_gives_no_file_is_no_data_set_that_was_not_pushed(
    hub: Hub, user: User, run: Path, tmp_path: Path, name: str
) -> None:
    user.check("push", run, REPO, *FEW)
    hub.refused = name
    try:
        done = user.vcrd("pull", REPO, tmp_path / "made")
    finally:
        hub.refused = None
    assert (done.rc, "run the same command again" in done.out) == (2, True), done.out
    assert not (tmp_path / "made").exists()
    user.check("pull", REPO, tmp_path / "made")
    assert (tmp_path / "made" / CARD).is_file()


def test_a_pull_that_cannot_begin_leaves_nothing_behind(user: User, run: Path, tmp_path: Path) -> None:
    user.check("push", run, REPO, *FEW)
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


def test_a_folder_may_be_given_from_inside(user: User, run: Path) -> None:
    assert user.check("card", ".", cwd=run / "training") == user.check("card", run / "training")


def test_what_is_named_badly_in_a_run_stays_text_in_its_card(user: User, tmp_path: Path) -> None:
    run = make_run(tmp_path / 'we`ird"', count=4)
    name = 'x"; evil() #\n```\n<script>'
    changed = {"name": name, "weights_fingerprint": "`|<script>"}
    rewrite(shard_files(run / "models")[0], lambda rows: [{**row, **changed} for row in rows])
    mend_manifest(run / "models")
    manifest = json.loads((run / "training" / "_manifest.json").read_text())
    manifest["provenance"]["params"]["prompts"] = "Write:\n\n```python\n\n</details>\n"
    (run / "training" / "_manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    card = DatasetCard(user.check("card", run)).text
    assert f"student = {json.dumps(name)}\n" in card
    assert card.count("\n````yaml\n") == card.count("\n````\n") == 1
    assert "<script>" not in card.replace(json.dumps(name), "").replace("\\<script", "")
