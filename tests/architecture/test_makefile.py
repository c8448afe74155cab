"""What the Makefile sets up holds where git is absent, as the README says."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workspace import ROOT


@pytest.mark.parametrize("has_git", [True, False])
def test_a_clone_without_git_is_told_to_dvc_by_its_set_up(has_git: bool, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    commands = tmp_path / ".venv/bin"
    commands.mkdir(parents=True)
    # In the order in which a finished installation leaves them, so that nothing is installed.
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/python", ".venv/.demo"):
        (tmp_path / name).touch()
    (commands / "dvc").write_text('#!/bin/sh\necho "dvc $@"\n')
    (commands / "dvc").chmod(0o755)
    if has_git:
        (tmp_path / ".git").mkdir()
    done = subprocess.run(["make", "--silent", "setup-demo"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if has_git else "dvc config --local core.no_scm true\n")
