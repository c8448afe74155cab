"""What `vcrd inspect` gathers: everything that is there in its place, and what is not there said."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.vcrd.factories import PROMPT, RIGHT, TOKENIZER
from tests.vcrd.inspect_pages import make_page, write_run
from tests.vcrd.test_cli import vcrd
from vcrd.cli.inspect import command
from vcrd.errors import ConfigError, SchemaError
from vcrd.inspect import Page, PrefixView, gather_page, render_page
from vcrd.inspect.render import as_script_data
from vcrd.inspect.sources import choose
from vcrd.inspect.tokens import TokenTexts
from vcrd.records import TOKENIZER_KEY
from vcrd.storage import SignalParams, encode_teacher_signal
from vcrd.tokenization import tokenizer_fingerprint

SHARD = "part-00000.parquet"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return write_run(tmp_path / "demo")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save_pretrained(folder)
    return folder


def prefixes(page: Page) -> list[PrefixView]:
    return [item for problem in page.problems for rollout in problem.rollouts for item in rollout.prefixes]


def alone(training: Path) -> Path:
    return Path(shutil.copytree(training, training.parent.parent / "pulled"))


def replaced(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.column_names.index(name), field, pa.array(values, field.type))


@pytest.mark.parametrize("part", ["training", ""])
def test_a_run_is_shown_with_all_evidence(training: Path, tokenizer: Path, part: str) -> None:
    shutil.copytree(tokenizer, training.parent / "student")
    page = gather_page(training.parent / part)
    assert (page.title, page.notes, page.max_weight, page.examples) == ("demo", [], 1.5, 4)
    (first, second) = page.problems
    assert (first.id, first.prompt, first.reference, second.id) == ("p0", PROMPT, "5", "p1")
    (rollout,) = first.rollouts
    assert (rollout.outcome, rollout.finish, rollout.rest) == (1, "eos", "")
    assert [item.student.text for item in rollout.prefixes if item.student] == list(RIGHT)
    shown = rollout.prefixes[0]
    assert (shown.target, shown.gap, shown.strength, shown.broken, shown.note) == ("teacher", 0.5, 0.75, False, "")
    assert shown.tokens is not None
    assert "".join(shown.tokens) == "b 3*4=2 2+0=2\n"
    assert shown.weights == [1.5] * len(shown.tokens)
    teacher = shown.teacher
    assert teacher is not None
    assert (teacher.validity, teacher.sd, teacher.successes, teacher.trials) == (0.75, 0.125, 1, 3)
    assert (teacher.rule, teacher.rule_reason) == (0, "2 equalities hold")
    assert (teacher.prm, teacher.peer, teacher.peer_missing) == (0.7, None, "not_asked")


def test_a_prefix_of_which_no_example_was_made_is_in_its_place_with_the_reason(training: Path) -> None:
    middle = gather_page(training).problems[0].rollouts[0].prefixes[1]
    assert (middle.index, middle.target, middle.note) == (1, None, "no example: too_long")
    assert middle.student is not None
    assert middle.teacher is not None
    assert (middle.student.text, middle.teacher.text, middle.gap) == (RIGHT[1], "b 3*4=2 2+0=2\n", 0.5)


def test_a_data_set_alone_is_shown_and_says_what_is_not_at_hand(training: Path) -> None:
    page = gather_page(alone(training))
    assert page.title == "pulled"
    assert "Only the data set itself" in page.notes[0]
    assert "no tokenizer of these token ids was found" in page.notes[1]
    assert [problem.prompt for problem in page.problems] == [None, None]
    shown = prefixes(page)
    assert [item.tokens for item in shown] == [None] * 4
    assert [item.student.sd for item in shown if item.student] == [None] * 4
    assert [item.gap for item in shown] == [0.5] * 4


def test_a_given_tokenizer_brings_tokens_and_prefixes(training: Path, tokenizer: Path) -> None:
    page = gather_page(alone(training), tokenizer=str(tokenizer))
    assert [problem.prompt for problem in page.problems] == [f"{PROMPT}\n"] * 2
    first, last = page.problems[0].rollouts[0].prefixes
    assert "".join(first.tokens or ()) == "b 3*4=2 2+0=2\n"
    assert last.prefix == f"{PROMPT}\n{RIGHT[0]}{RIGHT[1]}"


def test_a_tokenizer_of_other_ids_is_refused_and_not_taken_by_itself(training: Path, tokenizer: Path) -> None:
    table = pq.read_table(training / SHARD).replace_schema_metadata({TOKENIZER_KEY: b"of another"})
    pq.write_table(table, training / SHARD, write_page_checksum=True)
    shutil.copytree(tokenizer, training.parent / "student")
    assert "no tokenizer of these token ids" in gather_page(training).notes[0]
    with pytest.raises(ConfigError, match="is not the one of these token ids"):
        gather_page(training, tokenizer=str(tokenizer))
    pq.write_table(table.replace_schema_metadata({TOKENIZER_KEY: tokenizer_fingerprint(TOKENIZER)}), training / SHARD)
    assert gather_page(training).notes == []


def test_rows_that_nothing_matches_are_shown_as_such(tmp_path: Path) -> None:
    page = gather_page(write_run(tmp_path / "other", rollout_id="elsewhere/r0", problem_id="elsewhere"))
    assert page.examples == 4
    assert {item.note for item in prefixes(page)} == {"no rollout of this id lies beside the data set"}
    assert page.notes[1:] == [
        "4 examples have no rollout in the run beside the data set",
        "1 problems are not in the run beside the data set",
    ]
    beyond = gather_page(write_run(tmp_path / "beyond", step_index=7))
    assert [item.note for item in prefixes(beyond) if item.target] == ["the rollout has no such step"] * 4
    assert beyond.notes[1:] == ["4 examples are of a step that their rollout does not have"]


def test_the_compact_form_and_other_broken_numbers_are_read(training: Path) -> None:
    plain = render_page(gather_page(training))
    table = pq.read_table(training / SHARD)
    pq.write_table(encode_teacher_signal(table, SignalParams(vocabulary_size=29)), training / SHARD)
    assert render_page(gather_page(training)) == plain
    for name in ("step_strength", "relative_validity"):
        table = replaced(table, name, [float("nan")] * table.num_rows)
    pq.write_table(table, training / SHARD)
    shown = prefixes(gather_page(training))
    assert [(item.strength, item.gap) for item in shown if item.target] == [(None, None)] * 4


def test_a_limit_shows_whole_problems_always_the_same_and_says_so(tmp_path: Path) -> None:
    training = write_run(tmp_path / "demo", [f"p{index}" for index in range(9)])
    page = gather_page(training, limit=5)
    assert (page.examples, len(page.problems)) == (4, 2)
    assert page.notes[0].startswith("A part only: 4 of 18 examples, 2 of 9 problems")
    assert gather_page(training, limit=5) == page
    assert gather_page(training, limit=1).examples == 1
    assert not any("part only" in note for note in gather_page(training, limit=18).notes)


@given(st.dictionaries(st.text(), st.integers(1, 9), min_size=1), st.integers(1, 40))
def test_the_choice_fills_the_limit_with_whole_problems_whatever_their_order(
    counts: dict[str, int], limit: int
) -> None:
    chosen = choose(counts, limit)
    assert chosen
    assert len(chosen) == 1 or sum(counts[name] for name in chosen) <= limit
    assert choose(dict(reversed(counts.items())), limit) == chosen
    assert (sum(counts.values()) <= limit) <= (chosen == set(counts))


def test_what_is_no_training_data_set_is_refused(training: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        gather_page(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"not a training folder: part-00000\.parquet has no column example_id"):
        gather_page(training.parent / "problems")
    table = pq.read_table(training / SHARD)
    shorter = [row[:-1] for row in table.column("token_weights").to_pylist()]
    pq.write_table(replaced(table, "token_weights", shorter), training / SHARD)
    with pytest.raises(SchemaError, match="column token_weights, row 0: expected one value per token"):
        gather_page(training)


def test_the_verb_writes_the_same_page_every_time(training: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        done = CliRunner().invoke(command, [str(training), "-o", str(tmp_path / name)], catch_exceptions=False)
        assert done.exit_code == 0
        assert "4 examples of 2 problems" in done.output
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert text.count("<script") == text.count("</script>") == 2


@given(st.text())
def test_no_text_can_leave_the_data_block(text: str) -> None:
    page = make_page(1, rollouts=1, steps=1, tokens=1, text=lambda _: text)
    data = as_script_data(page)
    assert data.isascii()
    assert not set("<>&") & set(data)
    assert json.loads(data)["problems"][0]["rollouts"][0]["prefixes"][0]["student"]["text"] == text


@given(st.lists(st.integers(0, 28), max_size=30))
def test_pieces_are_one_per_token_and_join_to_the_text(ids: list[int]) -> None:
    texts = TokenTexts(TOKENIZER)
    pieces = texts.pieces(ids)
    assert len(pieces) == len(ids)
    named = [token in TOKENIZER.all_special_ids for token in ids]
    assert "".join(piece for piece, special in zip(pieces, named, strict=True) if not special) == texts.text(ids)
    assert all(pieces)


def test_a_folder_may_be_given_from_inside(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gather_page(training)
    monkeypatch.chdir(training)
    assert gather_page(Path()) == whole
    assert whole.problems[0].rollouts[0].outcome is not None


def test_a_path_that_cannot_be_written_is_one_line(training: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = vcrd("inspect", training, "-o", tmp_path / "file" / "page.html", expect=2).stderr
    assert f"ConfigError: {tmp_path / 'file'}" in told
    assert "Traceback" not in told
