"""Exports: each consumer's documented format, read as its documentation says, gives our tokens and weights back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.vcrd.test_cli import lines, vcrd
from tests.vcrd.training_rows import TEACHER, TOKENIZER, training_row, write_training
from tests.workspace import ROOT
from vcrd.domains.demo_math import build_tokenizer
from vcrd.errors import ConfigError, SchemaError
from vcrd.export import TARGETS, Exported, export_training
from vcrd.io.parquet import write_table

STUDENT = ROOT / "data/models/demo-math/student"
EOS = TOKENIZER.eos_token_id
ASKED = {"trl": (), "ms-swift": ("teacher",), "llama-factory": ("teacher",), "axolotl-kd": ("weights",)}


ROWS = [
    training_row("first", "a=1+2 ?\n", "a 1+2=3\n", 2.5),
    training_row("last", "a=1+2 ?\na 1+2=3\n", "#### 3$", 0.25),
    training_row("idle", "b=3*4 ?\n", "b 3*4=2\n", 0.0),
]


def run(tmp_path: Path, to: str, *shards: Sequence[dict], **asked: object) -> tuple[Path, Exported]:
    source, output = write_training(tmp_path / "run/training", *shards), tmp_path / "out"
    options = {"drop": ASKED[to], "tokenizer": str(STUDENT), **asked}
    return output, export_training(source, to, output, **options)


def learned(ids: Sequence[int], labels: Sequence[int], weights: Sequence[float]) -> list[tuple[int, int, float]]:
    """What a row teaches: at which position which token is predicted, and how much it counts."""
    return [
        (place - 1, label, float(np.float32(weight)))
        for place, (label, weight) in enumerate(zip(labels, weights, strict=True))
        if place and label != -100 and weight > 0 and ids[place] == label
    ]


def of_ours(example: dict) -> list[tuple[int, int, float]]:
    return learned(example["input_ids"], example["labels"], example["token_weights"])


# The readers below are written from what each consumer documents, never from the writer.


def swift_reads(message_row: dict, lead: Sequence[int] = ()) -> tuple[list[int], list[tuple[int, int, float]]]:
    [message] = message_row["messages"]
    assert message["role"] == "assistant"
    assert message_row["add_eos"] is False
    content = message["content"]
    assert len(content["token_ids"]) == len(content["loss_scale"])
    ids = [*lead, *content["token_ids"]]
    scales = [0.0] * len(lead) + content["loss_scale"]
    labels = [-100, *(token if scale > 0 else -100 for token, scale in zip(ids[1:], scales[1:], strict=True))]
    rolled, ahead = np.roll(labels, -1), np.roll([0.0, *scales[1:]], -1)
    assert message_row["length"] == len(ids)
    assert message_row["lengths"] == [len(ids)]
    return ids, [(at, int(rolled[at]), float(ahead[at])) for at in range(len(ids)) if rolled[at] != -100]


def factory_reads(sample: dict, tokenizer) -> tuple[list[int], list[tuple[int, int, float]]]:
    assert set(sample) == {"messages"}
    for message in sample["messages"]:
        assert set(message) == {"role", "content", "loss_weight"}
        assert [set(part) for part in message["content"]] == [{"type", "value"}]
        assert not any(
            str(token) in message["content"][0]["value"] for token in tokenizer.added_tokens_decoder.values()
        )
    assert [message["role"] for message in sample["messages"]] == ["user", "assistant"]

    def encode(messages: list[dict], prompt: bool) -> list[int]:
        plain = [{"role": item["role"], "content": item["content"][0]["value"]} for item in messages]
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    ids, prompt = encode(sample["messages"], False), encode(sample["messages"][:-1], True)
    assert ids[: len(prompt)] == prompt
    weight = sample["messages"][-1]["loss_weight"]
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    return ids, learned(ids, labels, [0.0] * len(prompt) + [weight] * (len(ids) - len(prompt)))


def with_template(folder: Path, tokenizer=None):
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(STUDENT)
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text()
    return tokenizer


def axolotl_reads(example: dict) -> dict[int, dict[int, float]]:
    """Position -> the teacher's distribution over the token that is predicted there."""
    names = {"input_ids", "attention_mask", "labels", "target_token_ids", "target_logprobs", "target_mask"}
    assert set(example) == names
    length = len(example["input_ids"])
    assert {len(example[name]) for name in names} == {length}
    assert example["attention_mask"] == [1] * length
    assert len({len(inner) for name in names if name.startswith("target") for inner in example[name]}) == 1
    found = {}
    targets = zip(*(example[f"target_{name}"] for name in ("token_ids", "logprobs", "mask")), strict=True)
    for at, (ids, logprobs, mask) in enumerate(targets):
        assert np.isfinite(logprobs).all()
        padding = [(token, logprob) for token, logprob, kept in zip(ids, logprobs, mask, strict=True) if not kept]
        assert set(padding) <= {(0, np.float32(-1e9))}
        if any(mask):
            assert at + 1 < length
            assert example["labels"][at + 1] != -100
            found[at] = {token: logprob for token, logprob, kept in zip(ids, logprobs, mask, strict=True) if kept}
    return found


def of_teacher(example: dict) -> dict[int, dict[int, float]]:
    found = {}
    for place, _, _ in of_ours(example):
        logprobs = np.array(example["teacher_topk_logprobs"][place + 1])
        if len(logprobs):
            normal = logprobs - np.log(np.exp(logprobs).sum())
            found[place] = dict(zip(example["teacher_topk_ids"][place + 1], normal, strict=True))
    return found


def same_distributions(ours: dict[int, dict[int, float]], theirs: dict[int, dict[int, float]]) -> bool:
    return ours.keys() == theirs.keys() and all(theirs[at] == pytest.approx(ours[at], abs=1e-5) for at in ours)


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
    bos = build_tokenizer()
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


def test_rows_that_disagree_with_themselves_are_rejects(tmp_path: Path) -> None:
    good = ROWS[0]
    broken = {
        "short": good | {"token_weights": good["token_weights"][:-1]},
        "heavy": good | {"token_weights": [*good["token_weights"][:-1], float("nan")]},
        "masked": good | {"token_weights": [1.0, *good["token_weights"][1:]]},
        "empty": good | {name: [] for name in good if isinstance(good[name], list)},
        "odd": good | {"teacher_topk_ids": [*good["teacher_topk_ids"][:-1], [1]]},
    }
    rows = [good, *(example | {"example_id": name} for name, example in broken.items())]
    _, done = run(tmp_path, "trl", rows)
    assert (done.written, done.rejects) == (1, {"bad_weight": 2, "candidates_differ": 1, "lengths_differ": 2})
    assert {item["record_id"] for item in lines(tmp_path / "out.rejects.jsonl")} == set(broken)


@pytest.mark.parametrize(
    ("to", "asked", "message"),
    [
        ("ms-swift", {"drop": ()}, "cannot carry the teacher: .* add --drop teacher"),
        ("llama-factory", {"drop": ()}, "cannot carry the teacher"),
        ("axolotl-kd", {"drop": ()}, "cannot carry the weights"),
        ("trl", {"drop": ("teacher",)}, "trl has a place for it"),
        ("ms-swift", {"tokenizer": None}, "needs --tokenizer"),
        ("ms-swift", {"tokenizer": "no/such/folder"}, "no such folder"),
    ],
)
def test_what_a_target_cannot_carry_is_refused_with_the_way_on(
    tmp_path: Path, to: str, asked: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, to, ROWS, **asked)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_without_a_teacher_nothing_needs_to_be_dropped_and_axolotl_has_nothing_to_do(tmp_path: Path) -> None:
    source = write_training(tmp_path / "training", ROWS, without=TEACHER)
    assert not export_training(source, "ms-swift", tmp_path / "a", tokenizer=str(STUDENT)).lost
    assert export_training(source, "trl", tmp_path / "b").written == 3
    with pytest.raises(ConfigError, match="has none"):
        export_training(source, "axolotl-kd", tmp_path / "c", drop=("weights",))
    partly = write_training(tmp_path / "partly", ROWS, without=TEACHER[:1])
    with pytest.raises(SchemaError, match="column teacher_topk_ids"):
        export_training(partly, "trl", tmp_path / "d")


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token id 99, the tokenizer has 29"):
        run(tmp_path, "ms-swift", [ROWS[0] | {"input_ids": [99, *ROWS[0]["input_ids"][1:]]}])


def test_the_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    output, _ = run(tmp_path, "trl", ROWS)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    source = tmp_path / "run"
    with pytest.raises(ConfigError, match="not empty; give another folder, or add --overwrite"):
        export_training(source, "trl", output)
    broken = tmp_path / "run/training/part-00001.parquet"
    broken.write_bytes(b"PAR1 no more")
    with pytest.raises(SchemaError, match="part-00001"):
        export_training(source, "trl", output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    broken.unlink()
    (output / "old.parquet").write_bytes(b"")
    export_training(source, "trl", output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    with pytest.raises(ConfigError, match="holds the data set"):
        export_training(source, "trl", tmp_path, overwrite=True)
    (output / "folder").mkdir()
    with pytest.raises(ConfigError, match="folders in it"):
        export_training(source, "trl", output, overwrite=True)
    assert not list(tmp_path.glob(".tmp*"))


def test_the_command_says_what_became_of_the_rows(tmp_path: Path) -> None:
    write_training(tmp_path / "run/training", ROWS)
    asked = ("export", tmp_path / "run", "--to", "ms-swift", "--tokenizer", STUDENT, "-o", tmp_path / "out")
    assert "add --drop teacher" in vcrd(*asked, expect=2).stderr
    done = vcrd(*asked, "--drop", "teacher")
    assert f"3 rows: 2 written, rejected: zero_weight 1 -> {tmp_path / 'out'}" in done.stdout
    assert "warning: ms-swift without the teacher" in done.stderr
    assert json.loads((tmp_path / "out.rejects.jsonl").read_text())["record_id"] == "idle"
    assert "no such folder" in vcrd("export", tmp_path / "no", "--to", "trl", "-o", tmp_path / "o", expect=2).stderr
    (tmp_path / "bare").mkdir()
    assert "holds no *.parquet" in vcrd("export", tmp_path / "bare", "--to", "trl", "-o", "o", expect=2).stderr
    write_table(tmp_path / "bare/x.parquet", pa.table({"text": ["a"]}))
    refused = vcrd("export", tmp_path / "bare", "--to", "trl", "-o", tmp_path / "o", expect=2).stderr
    assert "is not a training folder: x.parquet has no column input_ids, labels, token_weights" in refused


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
