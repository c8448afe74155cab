"""Exports: each consumer's documented format, read as its documentation says, gives our tokens and weights back."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.vcrd.exports import (
    EOS,
    ROWS,
    axolotl_reads,
    factory_reads,
    of_ours,
    of_teacher,
    run,
    same_distributions,
    swift_reads,
    with_template,
)
from tests.vcrd.test_cli import lines
from tests.vcrd.training_rows import TEACHER, TOKENIZER, training_row
from vcrd.domains.demo_math import DOMAIN
from vcrd.errors import SchemaError
from vcrd.export import TARGETS


def test_trl_gets_tokenised_columns_and_ours_beside_them(tmp_path: Path) -> None:
    output, done = run(tmp_path, "trl", ROWS[:2], ROWS[2:])
    assert (done.rows, done.written, done.rejects) == (3, 3, {})
    data = load_dataset("parquet", data_dir=str(output), split="train")
    names = (
        "input_ids",
        "labels",
        "token_weights",
        "teacher_topk_ids",
        "teacher_topk_logprobs",
        "teacher_tail_logprob",
    )
    assert tuple(data.column_names) == names
    for example, ours in zip(data, ROWS, strict=True):
        assert all(example[name] == pytest.approx(ours[name]) for name in names if "topk" not in name)
        assert example["teacher_topk_ids"] == ours["teacher_topk_ids"]
    assert [field.type for field in pq.read_schema(output / "part-00000.parquet")][:3] == [
        pa.list_(pa.int32()),
        pa.list_(pa.int32()),
        pa.list_(pa.float32()),
    ]


def test_ms_swift_gets_a_scale_for_each_token(tmp_path: Path) -> None:
    output, done = run(tmp_path, "ms-swift", ROWS[:1], ROWS[1:])
    assert (done.written, done.rejects) == (2, {"zero_weight": 1})
    data = load_from_disk(str(output))
    assert len(data) == 2
    for example, ours in zip(data, ROWS, strict=False):
        assert swift_reads(example) == (ours["input_ids"], of_ours(ours))


def test_ms_swift_puts_the_tokenizers_first_token_in_front_once(tmp_path: Path) -> None:
    bos = DOMAIN.build_tokenizer()
    bos.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 2)])
    bos.save_pretrained(tmp_path / "bos")
    framed = {
        name: [filler, *ROWS[0][name]]
        for name, filler in (
            ("input_ids", 2),
            ("labels", -100),
            ("token_weights", 0.0),
            ("teacher_topk_ids", []),
            ("teacher_topk_logprobs", []),
            ("teacher_tail_logprob", 0.0),
        )
    }
    ours = ROWS[0] | framed
    output, done = run(tmp_path, "ms-swift", [ours, ROWS[1]], tokenizer=str(tmp_path / "bos"))
    assert done.rejects == {"no_leading_tokens": 1}
    assert swift_reads(load_from_disk(str(output))[0], lead=[2]) == (ours["input_ids"], of_ours(ours))


def test_llama_factory_gets_text_that_leads_back_to_the_ids(tmp_path: Path) -> None:
    strange = training_row("strange", "a ?\n", "a 1=1\n")
    strange["input_ids"][:3] = [TOKENIZER.unk_token_id, EOS, EOS]
    several = training_row("several", "a ?\n", "ab", [1.0, 2.0])
    output, done = run(tmp_path, "llama-factory", ROWS, [strange, several])
    assert (done.written, done.rejects) == (3, {"several_weights": 1, "zero_weight": 1})
    samples, tokenizer = lines(output / "train.jsonl"), with_template(output)
    for sample, ours in zip(samples, [*ROWS[:2], strange], strict=True):
        assert factory_reads(sample, tokenizer) == (ours["input_ids"], of_ours(ours))
    assert samples[1]["messages"][1]["content"][0]["value"] == "#### 3<vcrd:1>"
    assert {path.name for path in output.iterdir()} == {"train.jsonl", "chat_template.jinja"}


def test_a_row_whose_text_leads_elsewhere_is_a_reject(tmp_path: Path) -> None:
    """Ids of another tokenization, as rollouts have them: this tokenizer joins what the row has apart."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "a", "b", "ab", "<s>"])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens([AddedToken("bb", single_word=True)])
    merging = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>")
    merging.save_pretrained(tmp_path / "merging")

    def ids(*values: int, masked: int = 1) -> dict:
        plain = {name: [[]] * len(values) for name in TEACHER[:2]} | {TEACHER[2]: [0.0] * len(values)}
        weights = [float(place >= masked) for place in range(len(values))]
        labels = [value if weight else -100 for value, weight in zip(values, weights, strict=True)]
        return ROWS[0] | plain | {"input_ids": list(values), "labels": labels, "token_weights": weights}

    apart, across, whole = ids(4, 1, 2), ids(4, 1, 2, masked=2), ids(4, 3, 1)
    changed = ids(4, 2, 2, 1)  # its text has that of a special token in it
    output, done = run(tmp_path, "llama-factory", [apart, across, whole, changed], tokenizer=str(tmp_path / "merging"))
    assert (done.written, done.rejects) == (1, {"no_round_trip": 3})
    tokenizer = with_template(output, AutoTokenizer.from_pretrained(tmp_path / "merging"))
    assert factory_reads(lines(output / "train.jsonl")[0], tokenizer) == ([4, 3, 1], of_ours(whole))


def test_axolotl_gets_the_candidates_one_place_to_the_left(tmp_path: Path) -> None:
    half = training_row("half", "a ?\n", "ab1", [1.0, 0.0, 2.0])
    output, done = run(tmp_path, "axolotl-kd", [*ROWS, half])
    assert (done.written, done.rejects) == (3, {"zero_weight": 1})
    assert "counts every token alike" in done.lost[0]
    data = list(load_dataset(str(output), split="train"))
    for example, ours in zip(data, [*ROWS[:2], half], strict=True):
        assert same_distributions(of_teacher(ours), axolotl_reads(example))
        labels = [
            label if weight else -100 for label, weight in zip(ours["labels"], ours["token_weights"], strict=True)
        ]
        assert (example["input_ids"], example["labels"]) == (ours["input_ids"], labels)
    first = ROWS[0]["labels"].index(ROWS[0]["input_ids"][8])
    assert data[0]["target_token_ids"][first - 1][0] == ROWS[0]["input_ids"][first]
    assert data[0]["target_token_ids"][-2][0] == ROWS[0]["input_ids"][-1]
    assert data[0]["target_mask"][-1] == [0, 0]


@st.composite
def examples(draw: st.DrawFn) -> dict:
    """A row of any shape: prefix, weights of one value or several, candidates here and there."""
    tokens = st.integers(3, 28)
    prefix = draw(st.lists(tokens, max_size=5))
    step = draw(st.lists(tokens | st.just(EOS), min_size=1, max_size=5))
    one = draw(st.floats(0, 4, width=32))
    weights = [one] * len(step) if draw(st.booleans()) else [draw(st.floats(0, 4, width=32)) for _ in step]
    counts = [0] * len(prefix) + [draw(st.integers(0, 3)) for _ in step]
    given = training_row("x", "", "") | {
        "input_ids": prefix + step,
        "labels": [-100] * len(prefix) + step,
        "token_weights": [0.0] * len(prefix) + weights,
        "teacher_topk_ids": [[(at * 5 + rank) % 29 for rank in range(count)] for at, count in enumerate(counts)],
        "teacher_topk_logprobs": [[-0.5 - rank - at / 32 for rank in range(count)] for at, count in enumerate(counts)],
        "teacher_tail_logprob": [-1.0] * len(counts),
    }
    return given | {"example_id": f"e{draw(st.integers(0, 10**9))}"}


@pytest.mark.parametrize("to", list(TARGETS))
@settings(max_examples=25)
@given(shards=st.lists(st.lists(examples(), min_size=1, max_size=5), min_size=1, max_size=3))
def test_what_is_written_teaches_what_the_row_teaches_and_the_rest_is_counted(
    to: str, shards: list[list[dict]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{**example, "example_id": f"r{index}"} for index, example in enumerate(chain(*shards))]
    tmp_path, source = tmp_path_factory.mktemp("law"), iter(rows)
    output = None
    with suppress(SchemaError):  # no row could be written
        output, done = run(tmp_path, to, *([next(source) for _ in shard] for shard in shards))
    if output is None:
        assert not (tmp_path / "out").exists()
        return
    path = tmp_path / "out.rejects.jsonl"
    rejected = {item["record_id"] for item in lines(path)} if path.exists() else set()
    assert done.rows == len(rows) == done.written + len(rejected)
    kept = [example for example in rows if example["example_id"] not in rejected]
    if to == "axolotl-kd":
        written = [example for file in sorted(output.glob("*.parquet")) for example in pq.read_table(file).to_pylist()]
        read, expected = [axolotl_reads(example) for example in written], [of_teacher(example) for example in kept]
        assert all(map(same_distributions, expected, read))
    elif to == "trl":
        written = [example for file in sorted(output.glob("*.parquet")) for example in pq.read_table(file).to_pylist()]
        assert [of_ours(example) for example in written] == [of_ours(example) for example in kept]
    elif to == "ms-swift":
        written = load_from_disk(str(output))
        assert [swift_reads(example) for example in written] == [(item["input_ids"], of_ours(item)) for item in kept]
    else:
        tokenizer = with_template(output)
        written = lines(output / "train.jsonl")
        read = [factory_reads(sample, tokenizer) for sample in written]
        assert read == [(item["input_ids"], of_ours(item)) for item in kept]
    assert len(written) == done.written


@pytest.mark.parametrize(("to", "module"), [("llama-factory", "llama_factory"), ("axolotl-kd", "axolotl_kd")])
def test_pieces_of_a_shard_make_the_same_rows(tmp_path: Path, to: str, module: str, monkeypatch) -> None:
    rows = [training_row(f"r{index}", "a ?\n" * (index + 1), "ab1") for index in range(5)]
    whole, _ = run(tmp_path / "whole", to, rows)
    monkeypatch.setattr(f"vcrd.export.{module}._PIECE", 20)
    parts, done = run(tmp_path / "parts", to, rows)
    assert done.written == 5
    if to == "llama-factory":
        assert lines(parts / "train.jsonl") == lines(whole / "train.jsonl")
    else:
        assert len(list(parts.iterdir())) > 1
        assert pq.read_table(parts).equals(pq.read_table(whole))


def chat_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Byte-level merges and control tokens, as chat models have them."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    text = "What is 2+2? First, 2+2=4.\n\nso the answer is 4\n\n" * 20
    inner.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.save_pretrained(folder)
    return made


def test_llama_factory_gets_chats_with_their_control_tokens(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path / "chat")
    ask = "<|im_start|>user\nWhat is 2+2? 漢é\U0001f600<|im_end|>\n<|im_start|>assistant\n"
    pairs = [
        (ask, "First, 2+2=4.\n"),
        (ask + "First, 2+2=4.\n", "so 4<|im_end|>"),
        (ask + "the ans", "wer is 4\n"),  # "answer" is one token, but not where a rollout was cut
    ]
    rows = []
    for index, texts in enumerate(pairs):
        prefix, step = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        columns = [prefix + step, [-100] * len(prefix) + step, [0.0] * len(prefix) + [1.25] * len(step)]
        blank = [[[]] * len(columns[0]), [[]] * len(columns[0]), [0.0] * len(columns[0])]
        names = ("input_ids", "labels", "token_weights", *TEACHER)
        rows.append(ROWS[0] | dict(zip(names, columns + blank, strict=True)) | {"example_id": f"r{index}"})
    output, done = run(tmp_path, "llama-factory", rows, tokenizer=str(tmp_path / "chat"))
    assert (done.written, done.rejects) == (2, {"no_round_trip": 1})
    reader = with_template(output, AutoTokenizer.from_pretrained(tmp_path / "chat"))
    for sample, ours in zip(lines(output / "train.jsonl"), rows, strict=False):
        assert factory_reads(sample, reader) == (ours["input_ids"], of_ours(ours))
