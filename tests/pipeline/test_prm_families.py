"""Every family of process reward models, as a tiny random model: both engines read the same scores, prefix by prefix.

Scores are compared before they are clipped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, Qwen2Config, Qwen2ForCausalLM

from pipeline.engines import EngineParams, ModelRef, load_engine
from pipeline.engines.heads import read_tensors
from tests.pipeline.prm_models import OTHER, PROBLEM, SAVE, STEPS, add_tensors, save_tiny, shape, tokenizer_of
from vcrd.errors import ConfigError
from vcrd.prm import DEFAULT_MARKS, Family, PrmSpec, StepLayout
from vcrd.requests import ClassifyRequest, Failure, TokenHead
from vcrd.tokenization import load_tokenizer

PARAMS = EngineParams(
    name="transformers",
    dtype="float32",
    device="cpu",
    threads=1,
    batch_size=8,
    max_in_flight=4,
    max_model_len=None,
    gpu_memory_utilization=0.5,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, str]:
    return {family: save_tiny(family, tmp_path_factory.mktemp(family)) for family in SAVE}


class Reader:
    """Lays solutions out for a family, and reads the scores of an engine."""

    def __init__(self, family: Family, folder: str) -> None:
        self.tokenizer = load_tokenizer(folder)
        spec = PrmSpec(family=family, path=folder, revision=None, reason="", marks=DEFAULT_MARKS[family])
        self.layout = None if family == "token_classification" else StepLayout(spec, self.tokenizer)
        self.head = self.layout.head if self.layout else TokenHead()

    def requests(self, name: str, problem: str, steps: list[str]) -> list[ClassifyRequest]:
        if self.layout is None:
            ids, positions = self.tokenizer.encode(problem + "\n"), []
            for step in steps:
                ids = ids + self.tokenizer.encode(step + "\n")
                positions.append(len(ids) - 1)
            return [ClassifyRequest(id=name, token_ids=ids, read_positions=positions)]
        parts = [steps[: end + 1] for end in range(len(steps))] if self.layout.per_step else [steps]
        laid = [self.layout.lay_out(problem, part) for part in parts]
        return [
            ClassifyRequest(id=f"{name}/{index}", token_ids=item.token_ids, read_positions=item.positions)
            for index, item in enumerate(laid)
        ]

    def scores(self, engine: Any, problem: str, steps: list[str]) -> np.ndarray:
        answers = engine.classify(self.requests("x", problem, steps))
        assert not any(isinstance(answer, Failure) for answer in answers)
        return np.concatenate([answer.probabilities[:, -1] for answer in answers])

    def all_scores(self, engine: Any) -> list[np.ndarray]:
        prefixes = [self.scores(engine, PROBLEM, STEPS[: end + 1]) for end in range(len(STEPS))]
        return [*prefixes, self.scores(engine, *OTHER)]


@pytest.fixture(params=list(SAVE))
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def test_a_prefix_has_the_scores_of_the_whole(folders: dict[Family, str], family: Family) -> None:
    reader = Reader(family, folders[family])
    *prefixes, other = reader.all_scores(load_engine(PARAMS, folders[family], None, "classify", reader.head))
    assert [len(part) for part in prefixes] == [1, 2, 3, 4]
    assert len(other) == len(OTHER[1])
    for part in prefixes:
        np.testing.assert_allclose(part, prefixes[-1][: len(part)], atol=1e-5)
    assert np.ptp(prefixes[-1]) > 1e-3


def by_hand(family: Family, folder: str, request: ClassifyRequest, head: TokenHead) -> np.ndarray:
    """The score's definition on the whole model, in the plain lines of the published code."""
    ids = torch.tensor([list(request.token_ids)])
    positions = list(request.read_positions)
    tensors = load_file(Path(folder) / "model.safetensors")
    with torch.inference_mode():
        if family == "token_classification":
            logits = LlamaForTokenClassification.from_pretrained(folder)(ids).logits[0]
            return logits.softmax(-1)[positions, 1].numpy()
        if family in ("qwen_math_prm", "skywork"):
            config = Qwen2Config.from_pretrained(folder)
            hidden = Qwen2ForCausalLM.from_pretrained(folder, config=config).model(ids).last_hidden_state[0][positions]
            if family == "skywork":
                return (hidden @ tensors["v_head.summary.weight"][0] + tensors["v_head.summary.bias"]).sigmoid().numpy()
            inner = (hidden @ tensors["score.0.weight"].T + tensors["score.0.bias"]).relu()
            return (inner @ tensors["score.2.weight"].T + tensors["score.2.bias"]).softmax(-1)[:, 1].numpy()
        logits = LlamaForCausalLM.from_pretrained(folder)(ids).logits[0]
        return logits[positions][:, list(head.label_ids)].softmax(-1)[:, 1].numpy()


def test_scores_are_those_of_the_published_definition(folders: dict[Family, str], family: Family) -> None:
    reader = Reader(family, folders[family])
    engine = load_engine(PARAMS, folders[family], None, "classify", reader.head)
    for request in reader.requests("x", PROBLEM, STEPS):
        (answer,) = engine.classify([request])
        expected = by_hand(family, folders[family], request, reader.head)
        np.testing.assert_allclose(answer.probabilities[:, -1], expected, atol=1e-5)


def test_too_long_is_a_failure_and_no_score(folders: dict[Family, str], family: Family) -> None:
    reader = Reader(family, folders[family])
    engine = load_engine(PARAMS, folders[family], None, "classify", reader.head)
    answers = engine.classify(reader.requests("long", PROBLEM * 40, STEPS) + reader.requests("short", *OTHER))
    reasons = [item.reason if isinstance(item, Failure) else "" for item in answers]
    assert set(reasons) == {"too_long", ""}


@pytest.mark.slow
@pytest.mark.usefixtures("needs_vllm")
def test_vllm_reads_the_scores_that_transformers_reads(folders: dict[Family, str], family: Family) -> None:
    reader = Reader(family, folders[family])
    ours = reader.all_scores(load_engine(PARAMS, folders[family], None, "classify", reader.head))
    engine = load_engine(replace(PARAMS, name="vllm"), folders[family], None, "classify", reader.head)
    try:
        theirs = reader.all_scores(engine)
        long = engine.classify(reader.requests("long", PROBLEM * 40, STEPS))
    finally:
        engine.close()
    difference = max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True))
    print(f"{family}: largest difference between the engines {difference:.1e}")  # noqa: T201
    assert difference < 1e-3
    for part in theirs[:-1]:
        np.testing.assert_allclose(part, theirs[-2][: len(part)], atol=1e-3)
    assert {answer.reason for answer in long} == {"too_long"}


@pytest.mark.usefixtures("needs_vllm")
@pytest.mark.parametrize("family", ["math_shepherd", "skywork"])
def test_vllm_refuses_to_split_a_head_that_it_would_read_wrongly(folders: dict[Family, str], family: Family) -> None:
    reader = Reader(family, folders[family])
    params = replace(PARAMS, name="vllm", tensor_parallel_size=2)
    with pytest.raises(ConfigError, match="tensor_parallel_size must be 1"):
        load_engine(params, folders[family], None, "classify", reader.head)


@pytest.mark.parametrize("wrong", ["qwen_math_prm", "skywork"])
def test_a_checkpoint_without_the_head_of_its_layout_is_refused(
    folders: dict[Family, str], wrong: Family, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(chat=True)
    model = Qwen2ForCausalLM(Qwen2Config(**shape(tokenizer)))
    model.config.architectures = ["Qwen2ForProcessRewardModel"]
    add_tensors(model, tmp_path, {})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks the head that its layout reads"):
        load_engine(PARAMS, str(tmp_path), None, "classify", Reader(wrong, folders[wrong]).head)


def test_a_heads_tensors_are_found_in_shards_and_never_unpickled(tmp_path: Path) -> None:
    tensors = {"v_head.summary.weight": torch.ones(1, 3), "v_head.summary.bias": torch.zeros(1)}
    rest = {"model.norm.weight": torch.ones(3)}
    for name in ("shards", "old"):
        (tmp_path / name).mkdir()
    save_file(rest, tmp_path / "shards/model-00001.safetensors")
    save_file(tensors, tmp_path / "shards/model-00002.safetensors")
    places = dict.fromkeys(rest, "model-00001.safetensors") | dict.fromkeys(tensors, "model-00002.safetensors")
    (tmp_path / "shards/model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    torch.save(tensors | rest, tmp_path / "old/pytorch_model.bin")
    found = read_tensors(ModelRef(str(tmp_path / "shards")), "v_head.summary.")
    assert {key: value.tolist() for key, value in found.items()} == {"weight": [[1.0, 1.0, 1.0]], "bias": [0.0]}
    assert read_tensors(ModelRef(str(tmp_path / "old")), "v_head.summary.") == {}


def test_capped_logits_are_refused(folders: dict[Family, str], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(chat=False)
    LlamaConfig(**shape(tokenizer), final_logit_softcapping=30.0).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="final_logit_softcapping"):
        load_engine(PARAMS, str(tmp_path), None, "classify", TokenHead(kind="tokens", label_ids=(1, 2)))
