"""The data set card: read by the Hub's own classes, text whatever names are like, and kept where people wrote."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

from tests.hub_server import Hub, Repo
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run, mend_manifest, rewrite
from vcrd.hub.columns import COLUMNS, ROWS
from vcrd.hub.edits import START, keep_edits, marked
from vcrd.hub.index import CARD
from vcrd.io.files import fingerprint
from vcrd.io.manifest import read_manifest, write_manifest
from vcrd.io.parquet import shard_files
from vcrd.records import ARTEFACTS, COMPACT_TRAINING_SCHEMA, TRAINING

REPO = "org/made"


def write_card(hub: Hub, text: str) -> None:
    hub.repos[REPO].commits[-1][1][CARD] = ("regular", text.encode())


def test_the_cards_metadata_goes_through_the_hubs_own_classes_and_back(user: User, made: Path, tmp_path: Path) -> None:
    user.check("card", made, "--repo", REPO, "-o", tmp_path / CARD)
    text = (tmp_path / CARD).read_text(encoding="utf-8")
    card = DatasetCard.load(tmp_path / CARD)
    assert card.data.license == "cc0-1.0"
    assert card.data.size_categories == ["n<1K"]
    card.save(tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == text
    assert DatasetCard(text).data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize("rejects", [{}, {"unfinished_step": 4, "a $\\reason{$ of another": 1}])
def test_the_pictures_of_a_card_lie_beside_it_on_the_hub_and_here(
    hub: Hub, user: User, small_run: Path, tmp_path: Path, rejects: dict[str, int]
) -> None:
    manifest = read_manifest(small_run / "proposals")
    first, *others = manifest.files
    first = replace(first, expected=first.expected + sum(rejects.values()), rejects=rejects)
    write_manifest(small_run / "proposals", replace(manifest, files=[first, *others]))
    user.check("push", small_run, REPO)
    files = hub.files(REPO)
    shown = set(re.findall(r"\]\((plots/[^)]*)\)", files[CARD].decode()))
    assert shown == {name for name in files if name.startswith("plots/")}
    assert shown == {f"plots/{name}.png" for name in ("validity", "weights", *(["rejects"] if rejects else []))}
    user.check("card", small_run, "--repo", REPO, "-o", tmp_path / "here" / CARD)
    for name in (CARD, *shown):
        assert (tmp_path / "here" / name).read_bytes() == files[name], name


def test_a_card_says_what_every_column_and_table_is() -> None:
    assert set(COLUMNS) == set(TRAINING.schema.names) | set(COMPACT_TRAINING_SCHEMA.names)
    assert set(ROWS) == {kind.name for kind in ARTEFACTS}


def test_names_in_a_card_are_text(user: User, tmp_path: Path) -> None:
    run = make_run(tmp_path / "made", licence="Our | own <b>licence</b>")
    card = DatasetCard(user.check("card", run))
    assert card.data.license == "other"
    assert "<b>" not in card.text.replace("\\<b", "")


def test_what_is_named_badly_in_a_run_stays_text_in_its_card(user: User, tmp_path: Path) -> None:
    run = make_run(tmp_path / 'we`ird"', count=4)
    name = 'x"; evil() #\n```\n<script>'
    changed = {"name": name, "weights_fingerprint": "`|<script>"}
    rewrite(shard_files(run / "models")[0], lambda rows: [{**row, **changed} for row in rows])
    mend_manifest(run / "models")
    manifest = read_manifest(run / "training")
    params = {**manifest.provenance["params"], "prompts": "Write:\n\n```python\n\n</details>\n"}
    write_manifest(run / "training", replace(manifest, provenance={**manifest.provenance, "params": params}))
    card = DatasetCard(user.check("card", run)).text
    assert f"student = {json.dumps(name)}\n" in card
    assert card.count("\n````yaml\n") == card.count("\n````\n") == 1
    assert "<script>" not in card.replace(json.dumps(name), "").replace("\\<script", "")


def test_what_people_write_into_a_card_outlives_the_next_push(hub: Hub, user: User, small_run: Path) -> None:
    user.check("push", small_run, REPO)
    written = hub.files(REPO)[CARD].decode()
    edited = DatasetCard(written)
    edited.data["language"], edited.data["pretty_name"] = ["en"], "Ours"
    edited.data["configs"], edited.data["license"] = [], "mit"
    edited.text = f"# By hand\n\n{edited.text}\nMore, by hand: <!-- a remark -->\n".replace(
        "of **validity", "of **VALIDITY"
    )
    write_card(hub, str(edited))
    user.check("push", small_run, REPO)
    card = DatasetCard(hub.files(REPO)[CARD].decode())
    was = DatasetCard(written)
    assert card.data.to_dict() == {**was.data.to_dict(), "language": ["en"], "pretty_name": "Ours"}
    assert card.text == f"# By hand\n\n{was.text}\nMore, by hand: <!-- a remark -->\n"
    assert json.loads(user.check("push", small_run, REPO, "--json"))["uploaded"] == 0


def test_a_card_that_was_there_first_keeps_its_text_and_one_without_our_part_is_left_alone(
    hub: Hub, user: User, small_run: Path
) -> None:
    hub.repos[REPO] = Repo(private=True, commits=[("1" * 40, {CARD: ("regular", b"# Mine\n")})])
    user.check("push", small_run, REPO)
    text = DatasetCard(hub.files(REPO)[CARD].decode()).text
    assert text.startswith("# Mine\n\n")
    assert START in text
    write_card(hub, "---\ntags: [mine]  # and a remark\n---\n# All mine\n")
    user.check("push", small_run, REPO)
    card = DatasetCard(hub.files(REPO)[CARD].decode())
    assert (card.text, card.data["tags"], len(card.data["configs"])) == ("# All mine\n", ["mine"], 6)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("---\na: [\n---\n", "cannot be read"),
        ("---\n- a\n---\n", "cannot be read"),
        (f"# x\n{START}\n", "put the other one"),
    ],
)
def test_a_card_that_cannot_be_kept_is_not_pushed_over(
    hub: Hub, user: User, small_run: Path, card: str, message: str
) -> None:
    user.check("push", small_run, REPO)
    write_card(hub, card)
    before = hub.files(REPO)
    done = user.vcrd("push", small_run, REPO)
    assert (done.rc, message in done.out) == (2, True), done.out
    assert hub.files(REPO) == before


@given(st.text(), st.text(), st.booleans())
def test_any_text_around_our_part_is_kept(above: str, below: str, first: bool) -> None:
    ours = "---\ntags:\n- vcrd\n---\n\n" + marked("ours, new")
    above, below = (text.replace("\r", "").replace("-", "") for text in (above, below))
    theirs = f"---\ntags:\n- vcrd\n---\n{above}{marked('ours, old')}{below}"
    assert keep_edits(ours, theirs, first=first) == theirs.replace("ours, old", "ours, new")


def test_a_card_tells_no_path_no_name_and_no_secret_of_whoever_made_it(hub: Hub, user: User, small_run: Path) -> None:
    told = {
        "path": "/home/ada/sets/own.jsonl",
        "windows": "C:\\Users\\ada\\own.jsonl",
        "home": "~ada/own.jsonl",
        "nested": [{"cache": "file:///Users/ada/cache/own"}, "see /home/ada/x and hf_" + "a" * 24],
        "server": {"url": "https://ada:secret@host/v1", "api_key": "k3y"},
        "template": "{prompt}\n/no_think",
        "max_tokens": 96,
    }
    manifest = read_manifest(small_run / "training")
    provenance = {**manifest.provenance, "params": {**manifest.provenance["params"], "problems": told}}
    entries = [replace(entry, fingerprint=fingerprint(provenance)[:16]) for entry in manifest.files]
    write_manifest(small_run / "training", replace(manifest, provenance=provenance, files=entries))
    rewrite(
        shard_files(small_run / "models")[0], lambda rows: [{**row, "name": "/home/ada/models/tiny"} for row in rows]
    )
    rewrite(
        shard_files(small_run / "problems")[0], lambda rows: [{**row, "source": "/home/ada/sets/own"} for row in rows]
    )
    for name in ("models", "problems"):
        mend_manifest(small_run / name)
    card = user.check("card", small_run)
    for word in ("ada", "/home", "Users", "k3y", "secret", "hf_aaa"):
        assert word not in card, word
    for word in ("own.jsonl", "https://host/v1", "{prompt}", "/no_think", "max_tokens: 96", "| tiny |", "see ~/x and"):
        assert word in card, word
    told = json.loads(user.check("push", small_run, REPO, "--json").splitlines()[-1])
    assert hub.files(REPO)[CARD].decode() == card.replace("org/name", REPO).replace(
        "pretty_name: name", "pretty_name: made"
    )
    assert told["telling"] == ["models/*.parquet", "training/_manifest.json"]
