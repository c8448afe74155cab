"""Process reward models and pre-trained models: they learn what there is, and the same bytes every time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.engines import EngineParams, load_engine
from tests.workspace import ROOT
from vcrd.domains.demo_math import DOMAIN, generate_problems, sample_solution
from vcrd.errors import ConfigError
from vcrd.metrics import auroc
from vcrd.models import PretrainParams, describe_model
from vcrd.prm import PrmTrainParams
from vcrd.requests import ClassifyRequest
from vcrd.training.curve import CURVE, read_curve
from vcrd.training.pretrain import bpe_tokenizer, pretrain
from vcrd.training.prm import train_prm

TEACHER = str(ROOT / "data/models/demo-math/teacher")
TOKENIZER = DOMAIN.build_tokenizer()
PARAMS = PrmTrainParams(
    base="teacher", stepwise=None, epochs=3, learning_rate=1e-3, batch_size=16, min_labels=2, threads=1
)
TINY = PretrainParams(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    max_position=64,
    steps=30,
    batch_size=8,
    learning_rate=1e-2,
)


def labelled(count: int, seed: int) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Solutions with a label behind every line: whether it is about one of the first two terms."""
    rng = random.Random(seed)
    rows = []
    for prompt, _ in generate_problems(4, count, seed):
        ids, marks = TOKENIZER.encode(prompt + "\n"), []
        for line in sample_solution(prompt, rng).splitlines(keepends=True)[:-1]:
            ids = ids + TOKENIZER.encode(line)
            marks.append((len(ids) - 1, int(line[0] in "ab")))
        rows.append((ids, marks))
    return rows


def test_a_reward_model_learns_and_is_read_back_by_the_engine(tmp_path: Path) -> None:
    losses = train_prm(TEACHER, None, labelled(300, 1), tmp_path, PARAMS, seed=1)
    assert losses[-1] < losses[0]
    curve = read_curve(tmp_path)
    steps = -(-300 // PARAMS.batch_size)
    assert curve[-1].step == steps * PARAMS.epochs
    assert sum(point.loss for point in curve[:steps]) / steps == pytest.approx(losses[0], rel=1e-6)
    engine = load_engine(
        EngineParams(
            name="transformers",
            dtype="float32",
            device="cpu",
            threads=1,
            batch_size=32,
            max_in_flight=32,
            max_model_len=None,
            gpu_memory_utilization=0.9,
            tensor_parallel_size=1,
            kv_cache_gib=1,
        ),
        str(tmp_path),
        None,
        "classify",
    )
    other = labelled(100, 2)
    asked = [
        ClassifyRequest(id=str(index), token_ids=ids, read_positions=[place for place, _ in marks])
        for index, (ids, marks) in enumerate(other)
    ]
    scores = [float(row[1]) for answer in engine.classify(asked) for row in answer.probabilities]
    labels = [label for _, marks in other for _, label in marks]
    assert auroc(scores, labels) > 0.9


def test_training_a_reward_model_repeats_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_prm(TEACHER, None, labelled(40, 1), tmp_path / name, PARAMS, seed=1)
    for file in ("model.safetensors", CURVE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_pretraining_learns_and_repeats_to_the_byte(tmp_path: Path) -> None:
    texts = [(f"say {n % 3}:", f" {n % 3} and {n % 3}") for n in range(60)]
    tokenizer = bpe_tokenizer((prompt + response for prompt, response in texts), 300)
    for name in ("a", "b"):
        pretrain(texts, tokenizer, TINY, tmp_path / name, seed=1)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    first, second = (describe_model("student", str(tmp_path / name), None) for name in ("a", "b"))
    assert first.weights_fingerprint == second.weights_fingerprint
    assert first.tokenizer_fingerprint == second.tokenizer_fingerprint


def test_texts_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer(["x y z"] * 5, 300)
    with pytest.raises(ConfigError, match="none of 1 texts fits in 64 tokens"):
        pretrain([("x " * 50, "y " * 50)], tokenizer, TINY, tmp_path, seed=1)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_shipped_tokenizers_decode_exactly_what_was_encoded(role: str) -> None:
    from transformers import AutoTokenizer

    shipped = AutoTokenizer.from_pretrained(ROOT / "data/models/demo-math" / role)
    text = "a=3*4 b=5-2 ?\na 3*4=2 2+0=2\n#### 5"
    assert shipped.decode(shipped.encode(text)) == text
    assert len(shipped.encode(text)) == len(text)
