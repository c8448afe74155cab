"""Exporting in tests, and readers of exports: written from what each consumer documents, never from the writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.vcrd.training_rows import TOKENIZER, training_row, write_training
from tests.workspace import ROOT
from vcrd.export import Exported, export_training

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
