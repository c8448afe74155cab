"""`python -m stages VERB`: what presets mean, and what a run rejected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from click.testing import CliRunner

from pipeline.cli import stages_of
from pipeline.layout import Layout
from pipeline.meanings import describe_parameters
from pipeline.params import sections_of
from pipeline.rejects import read_stage_rejects
from pipeline.shards import write_rejects
from stages.__main__ import main
from tests.workspace import ROOT
from vcrd.errors import ConfigError
from vcrd.io.files import write_json
from vcrd.io.rejects import count_reasons, reject

PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, catch_exceptions=False, standalone_mode=False)
    return done.stdout


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_shown_with_its_meaning_and_reads_back(name: str) -> None:
    shown, values = said("preset", "show", name), yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())
    assert yaml.safe_load(shown) == values
    assert "  # Share of the KL where there is a teacher signal; the rest is NLL. (number, 0 to 1)\n  kl_coef:" in shown
    told = json.loads(said("preset", "show", name, "--json"))
    assert told["values"] == values
    assert told["keys"]["rollouts.top_p"] == ["number, above 0 and at most 1", "Nucleus mass."]


def test_what_params_yaml_holds_is_shown_without_a_name() -> None:
    said("preset", "use", "demo-math", "--set", "train.epochs=3")
    assert yaml.safe_load(said("preset", "show"))["train"]["epochs"] == 3


def test_every_preset_is_listed_with_what_it_is_for() -> None:
    said("preset", "use", "gsm8k-smoke")
    lines = said("preset", "list").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("*")] == [
        name for name in PRESETS if name != "gsm8k-smoke"
    ]
    told = json.loads(said("preset", "list", "--json"))
    assert told["active"] == "gsm8k-smoke"
    assert [item["name"] for item in told["presets"]] == PRESETS
    assert all(item["description"].endswith(".") for item in told["presets"])


def test_every_parameter_of_every_stage_has_a_meaning() -> None:
    top = describe_parameters(sections_of(stages_of("stages").values()))
    keys = [item for section in top for item in (section, *section.below())]
    assert len(keys) > 100
    assert all(item.meaning.endswith(".") for item in keys), [item.key for item in keys if not item.meaning]


@dataclass(frozen=True)
class Inner:
    """Inside."""

    share: Annotated[float, Gt(0.5), Lt(1)]
    """A
    share."""


@dataclass(frozen=True)
class Section:
    """A section."""

    count: Annotated[int, Ge(1), Le(9)] | None
    """How many."""
    kind: Literal["a", "b"]
    """Which."""
    names: list[str]
    """What they are called."""
    sizes: tuple[int, ...] = ()
    """How large."""
    inner: Inner | None = None
    """More."""


@dataclass(frozen=True)
class Bare:
    """Says nothing of its field."""

    count: int


def test_ranges_and_docstrings_become_words() -> None:
    section = describe_parameters({"section": Section})[-1]
    assert {item.key: (item.allowed, item.meaning) for item in (section, *section.below())} == {
        "section": ("section", "A section."),
        "section.count": ("null or integer, 1 to 9", "How many."),
        "section.kind": ("a, b", "Which."),
        "section.names": ("list of texts", "What they are called."),
        "section.sizes": ("list of integers", "How large."),
        "section.inner": ("null or section", "More."),
        "section.inner.share": ("number, above 0.5 and below 1", "A share."),
    }
    with pytest.raises(TypeError, match=r"Bare\.count has no docstring"):
        describe_parameters({"bare": Bare})


def reject_some(project: Path) -> None:
    """Two shards of rejects, as a run leaves them; one text is hostile to a terminal."""
    rows = [reject(f"r{index}", "too_long" if index % 3 else "no_step", f"{index} tokens") for index in range(9)]
    rows[0] = reject("r0", "no_step", text="\x1b[31m\ud800" + "x" * 500)
    folder = Layout("demo-math").rejects("generate_rollouts")
    folder.mkdir(parents=True)
    for index, part in enumerate((rows[:4], rows[4:])):
        write_rejects(folder / f"part-{index:05d}.parquet", part)
    write_json(folder / "counts.json", {"expected": 20, "rejected": count_reasons(rows)})


def test_rejects_are_told_by_reason_with_samples(project: Path) -> None:
    said("preset", "use", "demo-math")
    with pytest.raises(ConfigError, match="is not there yet; run: dvc repro"):
        said("errors")
    reject_some(project)
    shown = said("errors", "--samples", "2").splitlines()
    assert shown[:3] == ["generate_rollouts: 9 of 20 rows rejected", "  no_step 3", "    r0"]
    assert shown[3].startswith('      "\\u001b[31m\\ud800xxx')
    assert len(shown[3]) < 200
    assert shown[4:] == ["    r3  3 tokens", "  too_long 6", "    r1  1 tokens", "    r2  2 tokens"]
    told = json.loads(said("errors", "generate_rollouts", "--json", "--samples", "100"))["stages"][0]
    assert told["reasons"] == {"no_step": 3, "too_long": 6}
    assert [item["record_id"] for item in told["samples"]["no_step"]] == ["r0", "r3", "r6"]
    assert told["samples"]["no_step"][0]["row"]["text"] == "\x1b[31m\ud800" + "x" * 500
    with pytest.raises(ConfigError, match="did you mean 'generate_rollouts'"):
        said("errors", "generate_rollout")


def test_counts_alone_open_no_file(project: Path) -> None:
    reject_some(project)
    for path in Layout("demo-math").rejects("generate_rollouts").glob("*.parquet"):
        path.write_bytes(b"")
    found = read_stage_rejects(Layout("demo-math"), "generate_rollouts", samples=0)
    assert found is not None
    assert found.reasons == {"no_step": 3, "too_long": 6}
    assert found.samples == {"no_step": [], "too_long": []}


def test_a_plan_on_paper_runs_nothing_and_refuses_what_it_cannot_read(project: Path) -> None:
    given = ("plan", "--preset", "gsm8k-qwen", "--on-paper", "prompt=100,solution=200,steps=5", "--problems", "7473")
    told = json.loads(said(*given, "--json", "--tokens-per-second", "student=1000,label_steps=500"))
    stages = {stage["stage"]: stage for stage in told["stages"]}
    rollouts = 4 * (5500 + 400 + 200)
    assert (stages["generate_rollouts"]["requests"], stages["propose_steps"]["requests"]) == (rollouts, 5 * rollouts)
    assert stages["generate_rollouts"]["worked"] == pytest.approx(200 * rollouts / 1000)
    assert stages["label_steps"]["worked"] == pytest.approx(stages["label_steps"]["written"] / 500)
    assert stages["propose_steps"]["worked"] is None
    assert told["worker"] == {"count": 1, "unit": "GPU"}
    assert told["dominant"] == "complete_steps"
    assert not (project / ".vcrd").exists()
    for extra, message in (
        (("--on-paper", "prompt=100"), "solution is missing"),
        (("--on-paper", "promt=100,solution=200,steps=5"), "did you mean 'prompt'"),
        (("--on-paper", "prompt=100,solution=2,steps=5"), "steps <= solution"),
        (("--tokens-per-second", "techer=5"), "did you mean 'teacher'"),
        (("--workers", "0"), "--workers"),
        (("--set", "run.num_shard=5"), "did you mean 'num_shards'"),
    ):
        with pytest.raises(ConfigError, match=message):
            said(*given, *extra)
    with pytest.raises(ConfigError, match=r"params.yaml is missing"):
        said("plan")


def test_every_verb_helps_with_an_example_and_its_exit_codes() -> None:
    verbs = [["show"], ["errors"], ["plan"], ["deps"], *(["preset", name] for name in ("list", "show", "use", "docs"))]
    for verb in verbs:
        text = said(*verb, "--help")
        assert f"  python -m stages {' '.join(verb)}" in text, verb
        assert "Exit codes: 0 done" in text
