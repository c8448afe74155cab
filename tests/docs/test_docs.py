"""Every command and every example of README.md and docs/ is run, as it stands there."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets.config
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.__main__ import main
from tests.docs.blocks import (
    PAGES,
    Block,
    bare,
    blocks,
    commands,
    exists,
    fragments,
    inline_commands,
    links,
    text_of,
)
from tests.docs.place import RUN, STUDENT, Place
from tests.hub_server import Hub
from tests.workspace import ROOT
from vcrd.io.parquet import read_table, shard_files

_CHAIN = "tests/stages/test_chain.py::test_a_second_repro_runs_nothing"
_TIMES = "tests/stages/test_chain.py::test_the_figures_and_the_times_are_shown_for_scripts_too"
_PLAN = "tests/stages/test_plan.py::test_what_a_few_problems_say_of_a_run_is_what_it_made"
_MATRIX = "tests/benchmarks/test_matrix.py::test_what_is_finished_is_not_made_again"
NOT_RUN = {
    "make demo": ("minutes, and it installs; the chain is run by the test", _CHAIN),
    "dvc repro": ("minutes", _CHAIN),
    "python -m stages plan": ("minutes", _PLAN),
    "python -m stages plan --workers 1,2,4": ("minutes", _PLAN),
    "xdg-open page.html": ("a browser", "tests/vcrd/test_inspect_page.py::test_a_run_is_told_side_by_side"),
    "python -m stages show": (
        "needs a report",
        "tests/stages/test_chain.py::test_the_report_says_what_the_artefacts_say",
    ),
    "python -m stages show --json": ("needs a report", _TIMES),
    "python -m stages show --timings": ("needs a report", _TIMES),
    "dvc plots show": (
        "needs a report",
        "tests/stages/test_chain.py::test_dvc_plots_draws_everything_that_the_report_does",
    ),
    "dvc metrics show": ("needs a run", _TIMES),
    "dvc repro --allow-missing train_student": (
        "needs the entries of a whole run",
        "tests/vcrd/test_hub_lock.py::test_a_fresh_clone_trains_from_what_it_pulls_with_one_command",
    ),
    "python -m stages.generate_rollouts --num-shards 8 ...": (
        "needs models and minutes",
        "tests/stages/test_errors.py::test_a_job_array_makes_what_one_process_makes",
    ),
    "vcrd push data/demo-math s3://bucket/demo-math": (
        "needs a store",
        "tests/vcrd/test_stores.py::test_what_is_pushed_is_the_run_byte_for_byte",
    ),
    "vcrd validate s3://bucket/demo-math": (
        "needs a store",
        "tests/vcrd/test_stores.py::test_validate_finds_the_same_there_as_here",
    ),
    "vllm serve ...": (
        "a model of 72 billion parameters",
        "tests/pipeline/test_server.py::TestServer::test_greedy_tokens_candidates_and_tails_agree",
    ),
    "make experiments": ("hours", _MATRIX),
    "make experiments LIMIT=small": ("minutes", _MATRIX),
    "python -m benchmarks.experiments tune ...": (
        "hours",
        "tests/benchmarks/test_quality.py::test_a_learning_rate_is_chosen_by_the_development_set",
    ),
    "python -m benchmarks.experiments report": (
        "needs runs",
        "tests/benchmarks/test_quality.py::test_the_table_takes_the_place_of_the_one_before",
    ),
    "python -m benchmarks.experiments resume demo-math": (
        "needs committed runs",
        "tests/benchmarks/test_matrix.py::test_another_clone_goes_on_from_committed_runs",
    ),
    "python -m benchmarks.quality": (
        "needs runs",
        "tests/benchmarks/test_quality.py::test_all_claims_hold_where_all_is_well",
    ),
    "swift sft ...": ("not installed", "tests/vcrd/test_export_formats.py::test_ms_swift_gets_a_scale_for_each_token"),
    "USE_V1=1 llamafactory-cli sft sft.yaml": (
        "not installed",
        "tests/vcrd/test_export_formats.py::test_llama_factory_gets_text_that_leads_back_to_the_ids",
    ),
}
"""Commands (or, with ..., how they begin) that are not run here: why, and what runs what they do."""
LANGUAGES = {"sh", "python", "text", "yaml"}
Ran = tuple[Block, subprocess.CompletedProcess[str]]
_SLOWEST = "docs/trainers.md"


def shell_blocks(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == "sh"]


SHELL_PAGES = [page for page in PAGES if shell_blocks(page)]
EXAMPLES = [block for page in PAGES for block in blocks(page) if block.language == "python"]


def left_out(command: str) -> str | None:
    begins = (known for known in NOT_RUN if known.endswith("...") and command.startswith(known.removesuffix("...")))
    return bare(command) if bare(command) in NOT_RUN else next(begins, None)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def finished_place(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.make(tmp_path_factory.mktemp("docs") / "clone", hub, finished=True)


@pytest.fixture
def place(finished_place: Place, tmp_path: Path) -> Place:
    return finished_place.copy(tmp_path / "clone")


@pytest.fixture(scope="module")
def ran(finished_place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[list[Ran]]]:
    """The shell blocks of every page, run one after another; two pages at a time, for each has a clone of its own."""

    def run(page: str) -> list[Ran]:
        folder = tmp_path_factory.mktemp("page")
        clone, done = finished_place.copy(folder / "clone"), []
        for block in shell_blocks(page):
            wanted = [command for command in commands(block.text) if left_out(command) is None]
            is_fresh = block.mark == "in a fresh clone"
            where = Place.make(folder / "fresh", finished_place.hub) if is_fresh else clone
            done.append((block, where.bash("\n".join(wanted))))
            if done[-1][1].returncode:
                break
        return done

    with ThreadPoolExecutor(2) as pool:
        return {page: pool.submit(run, page) for page in sorted(SHELL_PAGES, key=lambda page: page != _SLOWEST)}


@pytest.mark.parametrize("page", SHELL_PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, ran: dict[str, Future[list[Ran]]]) -> None:
    for block, done in ran[page].result():
        assert done.returncode == 0, f"{block.place}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert block.output is None or done.stdout == block.output, block.place


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.place)
def test_an_example_runs_and_prints_what_the_page_shows(
    block: Block, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block.text, block.place, "exec"), {"__name__": "__main__", **given(block.text)})  # noqa: S102 - of our own page
    assert block.output is None or said.getvalue() == block.output
    if "save_model" in block.text:
        before, after = (load_file(place.root / folder / "model.safetensors") for folder in (STUDENT, "distilled"))
        assert before.keys() == after.keys()
        assert any(not torch.equal(after[key], before[key]) for key in before)
        assert all(torch.isfinite(value).all() for value in after.values())


def given(text: str) -> dict[str, Any]:
    """What an example takes for granted: the names that it reads and does not make."""
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    wanted = {node.id for node in names} - made
    found: dict[str, Any] = {}
    if "token_weights" in wanted:
        found |= {name: torch.ones(4) for name in ("token_weights", "cross_entropy_per_token", "labels")}
    if "model" in wanted:
        found["model"] = AutoModelForCausalLM.from_pretrained(ROOT / STUDENT)
    if "tokenizer" in wanted:
        found["tokenizer"] = AutoTokenizer.from_pretrained(ROOT / STUDENT)
    if "table" in wanted:
        found["table"] = pa.concat_tables(read_table(path) for path in shard_files(Path(RUN) / "training"))
    return found


def test_commands_are_read_whole() -> None:
    text = "# told\na \\\n  b\ncat > x <<'END'\n# kept\nEND\nc  # told\n"
    assert commands(text) == ["a \\\n  b", "cat > x <<'END'\n# kept\nEND", "c  # told"]
    assert bare("c  # told") == "c"
    assert left_out("make demo    # minutes") == "make demo"
    assert left_out("make demo-code") is None


def test_a_command_that_fails_ends_its_block_and_is_named(place: Place) -> None:
    done = place.bash("echo {} | vcrd nonsense\necho never")
    assert done.returncode == 2
    assert "never" not in done.stdout
    assert "failed: vcrd nonsense" in done.stderr


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    everything = [command for page in PAGES for block in blocks(page) for command in commands(block.text)]
    used = {left_out(command) for command in everything}
    assert set(NOT_RUN) <= used
    assert all(exists(where) for _, where in NOT_RUN.values())


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is_in(page: str) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert text_of(page).count("```") == 2 * sum(1 + (block.output is not None) for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_the_text_are_there(page: str) -> None:
    for command in inline_commands(page):
        program, *words = command.split()
        if program == "make":
            assert exists(f"Makefile: {words[0]}"), command
        elif program == "vcrd":
            assert not words or importlib.util.find_spec(f"vcrd.cli.{words[0]}"), command
        elif program == "python" and words[1] == "stages":
            asked = [word for word in words[2:] if word.isalpha() and word.islower()]
            done = CliRunner().invoke(main, [*asked, "--help"])
            assert done.exit_code == 0, command
        elif program == "python" and "NAME" not in words[1]:
            assert importlib.util.find_spec(words[1]), command


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert all((ROOT / link).exists() for link in links(page))


def test_the_readme_links_every_page() -> None:
    assert set(PAGES) - {"README.md"} <= set(links("README.md"))


def test_the_page_of_parameters_is_what_the_stages_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert CliRunner().invoke(main, ["preset", "docs"]).stdout == text_of("docs/presets.md")


def messages() -> str:
    """All text in the code, with a gap where a value stands."""
    found = []
    for room in ("vcrd", "pipeline", "stages"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(getattr(part, "value", "\0")) for part in node.values if part is not None))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_every_message_that_is_explained_is_one_of_the_codes() -> None:
    table = text_of("docs/troubleshooting.md").partition("## Messages")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    assert len(cells) > 20
    said = messages()
    unknown = [part for cell in cells for part in fragments(cell) if part not in said]
    assert not unknown
