"""A demo run goes to the Hub and back: the same bytes and rows, proved, and a fresh clone trains from it alone."""

import json
import shutil
from pathlib import Path

from tests.hub_server import Hub
from tests.vcrd.hub_users import User, files_of
from tests.workspace import Workspace, stages_run
from vcrd.hub.index import CARD, INDEX, LOCK, PARAMS, PLOTS
from vcrd.io.parquet import read_table, shard_files
from vcrd.records import ARTEFACTS

REPO, RUN = "org/demo-math", "data/demo-math"


def fresh_clone(finished: Workspace, root: Path) -> Workspace:
    """The same project before anything was run in it."""
    clone = finished.copy(root)
    for made in (RUN, ".vcrd", ".dvc/cache"):
        shutil.rmtree(clone.root / made, ignore_errors=True)
    (clone.root / "dvc.lock").unlink()
    return clone


def test_the_demo_is_shared_and_a_fresh_clone_trains_from_it(
    finished: Workspace, hub: Hub, user: User, tmp_path: Path
) -> None:
    run = finished.root / RUN
    user.check("push", run, REPO)
    clone = fresh_clone(finished, tmp_path / "clone")
    told = user.check("pull", REPO, RUN, cwd=clone.root)
    pulled, before = files_of(clone.root / RUN), files_of(run)
    assert pulled == hub.files(REPO)
    ours = {name for name in pulled if name not in (CARD, INDEX, LOCK, PARAMS) and not name.startswith(f"{PLOTS}/")}
    assert {name: pulled[name] for name in ours} == {name: before[name] for name in ours}
    assert {name.partition("/")[0] for name in ours} == {*(kind.name for kind in ARTEFACTS), "reliability"}
    assert {f"{PLOTS}/{name}.png" for name in ("validity", "weights", "reliability")} <= set(pulled)

    proved = json.loads(user.check("validate", clone.root / RUN, "--json"))
    statuses = {
        check["check"]: check["status"]
        for item in proved["artefacts"]
        if item["artefact"] == "training"
        for check in item["checks"]
    }
    assert proved["ok"]
    assert set(statuses.values()) == {"holds"}
    assert {"prefixes", "mean weight", "vocabulary"} <= set(statuses)

    loaded = json.loads(user.check("load", REPO, tmp_path / "cache").splitlines()[-1])
    for kind in ARTEFACTS:
        rows = [row for path in shard_files(run / kind.name) for row in read_table(path).to_pylist()]
        assert loaded[kind.name]["rows"] == json.loads(json.dumps(rows, default=repr)), kind.name

    assert "train from it: dvc repro --allow-missing train_student" in told
    assert stages_run(clone.repro("--allow-missing", "train_student")) == ["train_student"]
    assert files_of(clone.root / RUN / "student") == files_of(run / "student")
