"""What is pulled into a fresh clone is what its stages would have made: DVC goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hub_server import Hub
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run

REPO = "org/made"
# Copies an artefact that was made beforehand, as a stage that takes a thousand GPU-hours would make it.
MAKE = """
import shutil, sys
from pathlib import Path

artefact = sys.argv[1]
if artefact == "student":
    Path("data/made/student").mkdir(parents=True)
    Path("data/made/student/trained").write_bytes(Path("data/made/training/part-00000.parquet").read_bytes())
else:
    shutil.copytree(Path("../made") / artefact, Path("data/made") / artefact)
"""
ORDER = {
    "problems": [],
    "models": [],
    "rollouts": ["problems", "models"],
    "proposals": ["rollouts"],
    "validity": ["proposals"],
    "training": ["validity"],
    "student": ["training", "models"],
}


def fresh_clone(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "make.py").write_text(MAKE)
    (root / "params.yaml").write_text("train: {epochs: 2}\nsteps: 3\n")
    stages = {
        name: {
            "cmd": f"python make.py {name}",
            "deps": ["make.py", *(f"data/made/{item}" for item in before)],
            "params": ["train" if name == "student" else "steps"],
            "outs": [f"data/made/{name}"],
        }
        for name, before in ORDER.items()
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    dvc(root, "init", "--no-scm")
    return root


def dvc(root: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(["dvc", *command], cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(told: str) -> list[str]:
    return [line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")]


def test_a_fresh_clone_trains_from_what_it_pulls_with_one_command(user: User, tmp_path: Path) -> None:
    make_run(tmp_path / "made", count=6)
    first = fresh_clone(tmp_path / "first")
    assert len(stages_run(dvc(first, "repro"))) == len(ORDER)
    user.check("push", "data/made", REPO, "--only", "training", cwd=first)
    shutil.rmtree(tmp_path / "made")

    second = fresh_clone(tmp_path / "second")
    told = user.check("pull", REPO, "data/made", cwd=second)
    assert "dvc repro --allow-missing train_student" in told
    assert sorted(path.name for path in (second / "data/made").iterdir() if path.is_dir()) == [
        "models",
        "plots",
        "training",
    ]
    restored = set(yaml.safe_load((second / "dvc.lock").read_text())["stages"])
    assert restored == set(ORDER) - {"student"}
    assert stages_run(dvc(second, "repro", "--allow-missing", "student")) == ["student"]
    trained = [root / "data/made/student/trained" for root in (first, second)]
    assert trained[0].read_bytes() == trained[1].read_bytes()


def pushed_run(user: User, root: Path) -> None:
    """Push from a clone whose lock file is written as DVC writes it."""
    make_run(root / "data/made", count=6)
    (root / "make.py").write_text(MAKE)
    (root / "params.yaml").write_text("steps: 3\n")
    (root / "dvc.yaml").write_text("stages: {}")
    code = {"path": "make.py", "hash": "md5", "md5": hashlib.md5(MAKE.encode()).hexdigest()}
    entries = {
        name: {
            "cmd": f"python make.py {name}",
            "deps": [code, *({"path": f"data/made/{item}"} for item in before)],
            "params": {"params.yaml": {"steps": 3}},
            "outs": [{"path": f"data/made/{name}"}],
        }
        for name, before in ORDER.items()
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
    user.check("push", "data/made", REPO, "--only", "training", cwd=root)


def test_entries_of_other_stages_stay_and_a_clone_that_differs_is_told(user: User, tmp_path: Path) -> None:
    pushed_run(user, tmp_path / "first")

    other = fresh_clone(tmp_path / "other")
    (other / "make.py").write_text(MAKE + "\n# edited\n")
    (other / "params.yaml").write_text("train: {epochs: 2}\nsteps: 4\n")
    (other / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"mine": {"cmd": "true"}}}))
    done = json.loads(user.check("pull", REPO, "data/made", "--json", cwd=other).splitlines()[-1])
    assert done["changed"] == ["make.py", "params.yaml: steps"]
    assert "mine" in yaml.safe_load((other / "dvc.lock").read_text())["stages"]
    assert stages_run(dvc(other, "repro", "--single-item", "student")) == ["student"]

    told = user.check("pull", REPO, "data/made", "--overwrite", cwd=other)
    assert "\nits parameters came along; take them: cp data/made/params.yaml params.yaml\n" in told
    shutil.copyfile(other / "data/made/params.yaml", other / "params.yaml")
    told = user.check("pull", REPO, "data/made", cwd=other)
    assert "differs from what made the data in 1 places, first 'make.py'" in told
    assert "came along" not in told


def test_elsewhere_no_entries_are_restored(user: User, tmp_path: Path) -> None:
    pushed_run(user, tmp_path / "first")
    assert "pull into that" in user.check("pull", REPO, tmp_path / "elsewhere")
    assert not (tmp_path / "dvc.lock").exists()


def put_lock(hub: Hub, lock: object) -> None:
    """Put another lock file in the place of the one that was pushed, with an index that fits."""
    tree = hub.repos[REPO].commits[-1][1]
    changed = yaml.safe_dump(lock).encode()
    index = json.loads(tree["vcrd.json"][1])
    index["files"]["lock.yaml"] = {"sha256": hashlib.sha256(changed).hexdigest(), "size": len(changed)}
    tree |= {"lock.yaml": ("regular", changed), "vcrd.json": ("regular", json.dumps(index).encode())}


def test_entries_that_write_elsewhere_are_not_restored(hub: Hub, user: User, tmp_path: Path) -> None:
    pushed_run(user, tmp_path / "first")
    lock = yaml.safe_load(hub.files(REPO)["lock.yaml"])
    lock["stages"]["theirs"] = {"cmd": "true", "outs": [{"path": "data/yours"}]}
    put_lock(hub, lock)
    other = fresh_clone(tmp_path / "other")
    user.check("pull", REPO, "data/made", cwd=other)
    assert set(yaml.safe_load((other / "dvc.lock").read_text())["stages"]) == set(ORDER) - {"student"}


@pytest.mark.parametrize(
    "entry",
    [None, [], {"deps": None}, {"outs": ["x"]}, {"outs": [{}]}, {"params": {"params.yaml": {5: 1}}}, {"params": []}],
)
def test_a_lock_file_that_is_none_is_found_before_the_folder_appears(
    hub: Hub, user: User, tmp_path: Path, entry: object
) -> None:
    pushed_run(user, tmp_path / "first")
    put_lock(hub, {"schema": "2.0", "stages": {"theirs": entry}})
    done = user.vcrd("pull", REPO, tmp_path / "other")
    assert (done.rc, "lock.yaml: expected an entry for each stage" in done.out) == (3, True), done.out
    assert not (tmp_path / "other").exists()
