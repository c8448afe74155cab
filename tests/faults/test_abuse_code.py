"""No code runs at load: not a model's, not a data set's, not a pickle. Each payload would leave a marker."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.engines import load_engine
from pipeline.params import read_yaml
from tests.pipeline.small_engine import PARAMS
from tests.pipeline.tiny_models import save_model
from tests.vcrd.factories import problem
from tests.workspace import ROOT, Workspace
from vcrd.errors import ConfigError, VcrdError
from vcrd.io.parquet import read_table
from vcrd.io.sources import read_file_rows, read_hub_rows, read_source
from vcrd.models import describe_model
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.tokenization import load_tokenizer
from vcrd.training.params import TrainParams
from vcrd.training.student import train_student

SUFFIXES = {".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".npy", ".npz"}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a payload makes, outside everything that is read."""
    return tmp_path / "it-ran"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def with_own_code(folder: Path, marker: Path, kind: str | None = None) -> str:
    """A model folder whose configuration names classes in a module of its own."""
    path = save_model(folder, "qwen2")
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Evil: ...\n")
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForTokenClassification", "AutoTokenizer")
    for file in ("config.json", "tokenizer_config.json"):
        value = json.loads((folder / file).read_text())
        value["auto_map"] = {name: ["evil.Evil", "evil.Evil"] if "Token" in name else "evil.Evil" for name in names}
        if kind is not None:
            value |= {"model_type": kind, "tokenizer_class": "Evil"}
        (folder / file).write_text(json.dumps(value))
    return path


def test_the_payloads_work(marker: Path) -> None:
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.is_dir()


@pytest.mark.parametrize("task", ["generate", "classify"])
@pytest.mark.parametrize("kind", [None, "evil"])
def test_a_models_own_code_is_not_imported(tmp_path: Path, marker: Path, task: str, kind: str | None) -> None:
    path = with_own_code(tmp_path / "model", marker, kind)
    loads = (lambda: load_engine(PARAMS, path, None, task), lambda: describe_model("student", path, None))
    # Weights of a kind that is known load without the code; a head for classes this model has not.
    for load, loadable in zip(loads, (kind is None and task == "generate", kind is None), strict=True):
        with contextlib.nullcontext() if loadable else pytest.raises(ConfigError):
            load()
    assert not marker.exists()
    assert not [name for name in sys.modules if name.rpartition(".")[2] == "evil"]


def test_a_student_with_code_of_its_own_is_not_trained(tmp_path: Path, marker: Path) -> None:
    path = with_own_code(tmp_path / "model", marker, "evil")
    section = read_yaml(ROOT / "presets/demo-math.yaml")["train"]
    with pytest.raises(ValueError, match="trust_remote_code"):
        train_student(path, None, tmp_path / "training", tmp_path / "student", TrainParams(**section), seed=1)
    assert not marker.exists()


@pytest.fixture
def pickled_model(tmp_path: Path, marker: Path) -> str:
    path = save_model(tmp_path / "model", "qwen2")
    (tmp_path / "model/model.safetensors").unlink()
    torch.save({"model.norm.weight": Payload(marker)}, tmp_path / "model/pytorch_model.bin")
    return path


def test_pickled_weights_are_refused_with_what_to_do(pickled_model: str, marker: Path) -> None:
    for load in (
        lambda: load_engine(PARAMS, pickled_model, None, "generate"),
        lambda: describe_model("student", pickled_model, None),
    ):
        with pytest.raises(ConfigError, match=r"only safetensors are read.*save_pretrained"):
            load()
    assert not marker.exists()


def test_a_template_of_a_model_reaches_nothing(tmp_path: Path, marker: Path) -> None:
    tokenizer = load_tokenizer(save_model(tmp_path / "model", "qwen2"))
    params = PromptParams(style="chat", template="{prompt}", system=None, think=False)
    reach = "''.__class__.__mro__[1].__subclasses__()"
    for template in (
        f"{{{{ {reach} }}}}",
        f"{{{{ cycler.__init__.__globals__.os.mkdir({str(marker)!r}) }}}}",
        f"{{{{ messages.append({reach}) }}}}",
    ):
        tokenizer.chat_template = template
        with pytest.raises(ConfigError, match="chat template cannot be rendered"):
            prompt_ids(problem(), tokenizer, params)
    assert not marker.exists()


def test_pickles_in_the_metadata_of_a_table_stay_bytes(tmp_path: Path, marker: Path) -> None:
    payload = pickle.dumps(Payload(marker))
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
    schema = pa.schema([pa.field("prompt", pa.string(), metadata=extension)], metadata={b"pandas": payload})
    pq.write_table(pa.table([["1+1?"]], schema=schema), tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").column("prompt").to_pylist() == ["1+1?"]
    assert [row.values for row in read_file_rows(tmp_path / "x.parquet")] == [{"prompt": "1+1?"}]
    assert not marker.exists()


def test_a_data_sets_script_and_yaml_tags_do_not_run(
    tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"import os\nos.mkdir({str(marker)!r})\n"
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted/scripted.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        list(read_hub_rows({"hub": "scripted", "config": None, "split": "train", "revision": "main"}))
    card = tmp_path / "card.yaml"
    card.write_text(f"hub: !!python/object/apply:os.mkdir [{str(marker)!r}]\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_source(card)
    assert not marker.exists()


def test_a_data_set_on_the_hub_with_a_script_is_refused(tmp_path: Path, marker: Path) -> None:
    from datasets import load_dataset

    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted/scripted.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    with pytest.raises((RuntimeError, ValueError, OSError)):
        load_dataset(str(tmp_path / "scripted"), split="train", cache_dir=str(tmp_path / "cache"))
    assert not marker.exists()


def test_a_run_writes_no_pickle(finished: Workspace) -> None:
    files = [path for path in (finished.root / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert [path for path in files if path.suffix in SUFFIXES] == []
    for path in files:
        head = path.read_bytes()[:2]
        assert head not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), path


def test_errors_of_hostile_files_are_expected_ones(tmp_path: Path, marker: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(pickle.dumps(Payload(marker)))
    (tmp_path / "x.parquet").write_bytes(pickle.dumps(Payload(marker)))
    assert all(row.values is None for row in read_file_rows(tmp_path / "x.jsonl"))
    with pytest.raises(VcrdError):
        list(read_file_rows(tmp_path / "x.parquet"))
    assert not marker.exists()
