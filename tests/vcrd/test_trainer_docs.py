"""The examples of docs/trainers.md do what the page says, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.vcrd.training_rows import demo_rows, write_training
from tests.workspace import ROOT
from vcrd.cli.export import command

PAGE = (ROOT / "docs/trainers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- (test|not run): (.+?) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = {name: code for mark, name, language, code in BLOCKS if (mark, language) == ("test", "python")}
EXPORTS = [
    line for *_, language, code in BLOCKS if language == "sh" for line in code.splitlines() if "vcrd" in line[:4]
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the paths that the page names, and a training set of one step."""
    write_training(tmp_path / "data/demo-math/training", demo_rows(8))
    (tmp_path / "data/models").symlink_to(ROOT / "data/models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_python_example_is_run_or_says_why_not() -> None:
    marks = [(mark, name) for mark, name, language, _ in BLOCKS if language == "python"]
    assert all(mark for mark, _ in marks)
    assert {"trl", "plain"} <= set(EXAMPLES)
    assert all(len(code.splitlines()) < 25 for *_, code in BLOCKS)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_python_example_trains_the_student(name: str, project: Path) -> None:
    exec(compile(EXAMPLES[name], f"docs/trainers.md, {name}", "exec"), {"__name__": "__main__"})
    before = load_file(project / "data/models/demo-math/student/model.safetensors")
    after = load_file(project / "distilled/model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(after[key], before[key]) for key in before)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_every_export_of_the_page_writes_its_folder(project: Path) -> None:
    assert {re.search(r"--to (\S+)", line)[1] for line in EXPORTS} == {"ms-swift", "llama-factory", "axolotl-kd"}
    for line in EXPORTS:
        _, _, *arguments = shlex.split(line)
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert "rejected: zero_weight" in done.stdout
        assert any((project / arguments[-1]).iterdir())
