"""The index that is pulled was written by somebody else: nothing in it leads out of the folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hub_server import Hub
from tests.vcrd.hub_users import User
from vcrd.errors import SchemaError, VcrdError
from vcrd.hub.index import CARD, INDEX, TABLES, Entry, Index, shared_path
from vcrd.hub.pull import pull

REPO = "org/made"


UNSAFE = (
    "../outside",
    "/outside",
    "a/../../outside",
    ".git/config",
    "a\\b",
    "a//b",
    "",
    "a/.",
    "a\x1b[2J",
    "a\nb",
    "training/x.sh",
)


def test_unsafe_paths_are_refused(hub: Hub, user: User, small_run: Path, tmp_path: Path) -> None:
    user.check("push", small_run, REPO, "--only", "training")
    tree = hub.repos[REPO].commits[-1][1]
    sound = json.loads(tree[INDEX][1])
    for name in UNSAFE:
        with pytest.raises(SchemaError, match="unsafe"):
            shared_path(name, INDEX)
        files = {**sound["files"], name: sound["files"]["training/_manifest.json"]}
        tree[INDEX] = ("regular", json.dumps({**sound, "files": files}).encode())
        done = user.vcrd("pull", REPO, tmp_path / "in" / "made")
        assert (done.rc, "unsafe" in done.out) == (3, True), name
        assert not (tmp_path / "in" / "made").exists()
        assert not (tmp_path / "outside").exists()


GOOD = ("training/part-00000.parquet", "training/_manifest.json", "plots/validity.png", "lock.yaml", "params.yaml")
BAD_PARTS = (
    "..",
    ".",
    "",
    "/",
    "~",
    ".git",
    "README.md",
    "vcrd.json",
    "config",
    "x.py",
    "x.exe",
    "CON",
    "a\u202eb",
    "a\x00b",
)
names = st.one_of(
    st.sampled_from(GOOD),
    st.sampled_from(GOOD).map(str.upper),
    st.sampled_from(GOOD).map(str.title),
    st.builds("{}{}".format, st.sampled_from(GOOD), st.sampled_from(["\n", " ", "/", "/..", "/x", ".sh", "\x00", "~"])),
    st.builds(
        "{}{}".format, st.sampled_from(["/", "./", "../", "a/../", "\\", "C:", "training/../"]), st.sampled_from(GOOD)
    ),
    st.lists(
        st.sampled_from([*BAD_PARTS, *TABLES, "part-00000.parquet", "part-\u0661\u0662\u0663\u0664\u0665.parquet"])
    ).map("/".join),
    st.text(),
)
CONTENT = b"anything"


def index_text(listed: list[str], entry: object) -> str:
    pairs = ", ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name in listed)
    return f'{{"format": "vcrd-dataset/1", "folder": null, "files": {{{pairs}}}}}'


class HostileHub:
    """Gives any file that is asked for, as the library does: into the folder, under the name that the index has."""

    def __init__(self, index: str) -> None:
        self._index = index

    def repo_info(self, repo: str, **asked: Any) -> SimpleNamespace:
        return SimpleNamespace(sha="1" * 40)

    def hf_hub_download(self, repo: str, name: str, *, local_dir: Path, **asked: Any) -> None:
        path = Path(os.path.join(local_dir, name))  # noqa: PTH118 - leads where the name says
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._index.encode() if name == INDEX else CONTENT)


@settings(max_examples=150)
@given(st.lists(names, max_size=6))
def test_a_hostile_index_writes_only_what_push_writes_or_nothing(listed: list[str]) -> None:
    entry = {"sha256": Entry.of(CONTENT).sha256, "size": len(CONTENT)}
    with tempfile.TemporaryDirectory() as made:
        folder, root = Path(made) / "in" / "made", Path(made)
        hub = HostileHub(index_text(listed, entry))
        try:
            with patch("vcrd.hub.pull.open_client", lambda repo: hub):
                pull(REPO, folder)
        except VcrdError:
            assert not folder.exists()
        found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        hidden = "in/.tmp-pull-made/"
        inside = {name.removeprefix("in/made/").removeprefix(hidden) for name in found}
        assert inside <= {*GOOD, *(name for name in listed if name in inside and _is_pushed(name)), INDEX, CARD}
        assert len({name.casefold() for name in inside}) == len(inside)


def _is_pushed(name: str) -> bool:
    room, _, file = name.partition("/")
    return room in TABLES and file.isascii() and (file == "_manifest.json" or file == "part-00000.parquet")


@given(
    st.lists(names, max_size=8), st.sampled_from(["0" * 64, "0" * 63, "x", "", None, 5]), st.integers() | st.booleans()
)
def test_an_index_is_read_only_where_all_of_it_can_be(listed: list[str], sha256: object, size: int) -> None:
    text = index_text(listed, {"sha256": sha256, "size": size})
    sound = sha256 == "0" * 64 and type(size) is int and size >= 0
    if all(name in GOOD or _is_pushed(name) for name in listed) and (sound or not listed):
        assert set(Index.parse(text, INDEX).files) == set(listed)
    else:
        with pytest.raises(SchemaError):
            Index.parse(text, INDEX)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["format", "folder", "files", "x"]), inner),
    )
)
def test_what_is_no_index_is_said_to_be_none(value: object) -> None:
    with pytest.raises(SchemaError):
        Index.parse(json.dumps(value), INDEX)
