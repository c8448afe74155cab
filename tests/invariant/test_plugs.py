"""`apply_token_weights`: a plain Trainer learns what the weighted trainer learns, however a batch is split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Trainer,
    TrainingArguments,
)

from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from tests.workspace import ROOT
from vcrd.errors import ConfigError
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import load_training_dataset
from vcrd.training.plugs import apply_token_weights
from vcrd.training.trainer import WeightedSFTTrainer

STUDENT = ROOT / "data/models/demo-math/student"
SIZES = {
    "vocab_size": 29,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
COMMON = {
    "max_steps": 1,
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "max_grad_norm": 1e9,
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}

Weights = dict[str, torch.Tensor]


def student() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)


def batch_of(examples: list[dict], with_teacher: bool = True) -> dict[str, torch.Tensor]:
    return DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id, with_teacher=with_teacher)(examples)


def update(before: torch.nn.Module, after: torch.nn.Module) -> torch.Tensor:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return torch.cat([(new - old).detach().flatten() for old, new in pairs])


def plain_update(tmp_path: Path, examples: list[dict], kl_coef: float, **changes: object) -> torch.Tensor:
    data = load_training_dataset(write_training(tmp_path / "data", examples))
    model = student()
    apply_token_weights(model, kl_coef=kl_coef)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(tmp_path / "out"), remove_unused_columns=False, **COMMON, **changes),
        train_dataset=data,
        data_collator=DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id, with_teacher=kl_coef > 0),
    )
    trainer.train()
    return update(student(), model)


def weighted_update(tmp_path: Path, examples: list[dict], kl_coef: float, **changes: object) -> torch.Tensor:
    data = load_training_dataset(write_training(tmp_path / "data", examples))
    model = student()
    args = WeightedSFTConfig(output_dir=str(tmp_path / "out"), kl_coef=kl_coef, max_length=None, **COMMON, **changes)
    WeightedSFTTrainer(model=model, args=args, train_dataset=data, processing_class=TOKENIZER).train()
    return update(student(), model)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("family", ["llama", "qwen2", "student"])
@pytest.mark.parametrize("count", [None, 37])
def test_unit_weights_give_the_models_own_loss_and_gradient(family: str, count: int | None) -> None:
    torch.manual_seed(0)
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
        "student": lambda: student().double(),  # its gradients are up to 3, where float32 has no 1e-6
    }
    model = made[family]()
    batch = batch_of(demo_rows(6), with_teacher=False)
    batch["token_weights"] = (batch["labels"] != -100).float()
    asked = {} if count is None else {"num_items_in_batch": torch.tensor(count)}
    names = ("input_ids", "attention_mask", "labels")
    own = model(**{name: batch[name] for name in names}, **asked).loss
    expected = torch.autograd.grad(own, list(model.parameters()))
    apply_token_weights(model)
    ours = model(**batch, **asked).loss
    found = torch.autograd.grad(ours, list(model.parameters()))
    assert ours.item() == pytest.approx(own.item(), rel=1e-6)
    assert all(torch.allclose(new, old, atol=1e-6) for new, old in zip(found, expected, strict=True))


@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_any_split_of_a_batch_gives_the_same_update(tmp_path: Path, kl_coef: float) -> None:
    examples = demo_rows(4)
    whole = plain_update(tmp_path / "a", examples, kl_coef, per_device_train_batch_size=4)
    for batch, accumulation in ((1, 4), (2, 2)):
        split = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        parts = plain_update(tmp_path / f"b{batch}", examples, kl_coef, **split)
        assert relative(parts, whole) < 2e-6


@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_it_learns_what_the_weighted_trainer_learns(tmp_path: Path, kl_coef: float) -> None:
    examples = demo_rows(8)
    split = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    ours = plain_update(tmp_path / "a", examples, kl_coef, **split)
    theirs = weighted_update(tmp_path / "b", examples, kl_coef, **split)
    assert relative(ours, theirs) < 2e-6
    flat = [{**row, "token_weights": [float(weight > 0) for weight in row["token_weights"]]} for row in examples]
    assert relative(plain_update(tmp_path / "c", flat, kl_coef, **split), ours) > 0.01


def test_weights_are_taken_in_evaluation_too(tmp_path: Path) -> None:
    examples = [row for row in demo_rows(12) if sum(row["token_weights"])][:4]
    doubled = [{**row, "token_weights": [2 * weight for weight in row["token_weights"]]} for row in examples]
    losses = []
    for name, given in (("a", examples), ("b", doubled)):
        model = student()
        apply_token_weights(model)
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=str(tmp_path / "out"), remove_unused_columns=False, **COMMON),
            eval_dataset=load_training_dataset(write_training(tmp_path / name, given)),
            data_collator=DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id, with_teacher=False),
        )
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)


def test_the_replaced_loss_is_not_saved_with_the_model(tmp_path: Path) -> None:
    model = student()
    apply_token_weights(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    batch = batch_of(demo_rows(2), with_teacher=False)
    del batch["token_weights"]
    assert torch.isfinite(again(**batch).loss)


def test_a_batch_without_what_the_loss_needs_is_refused() -> None:
    model = student()
    apply_token_weights(model, kl_coef=0.5)
    batch = batch_of(demo_rows(2), with_teacher=False)
    with pytest.raises(ConfigError, match="the batch has no teacher_topk_ids; see with_teacher"):
        model(**batch)
    with pytest.raises(ConfigError, match="switch them off"):
        model(**batch_of(demo_rows(2)), shift_labels=batch["labels"])
    del batch["token_weights"]
    with pytest.raises(ConfigError, match=r"no token_weights reached the loss; use .* remove_unused_columns=False"):
        model(**batch)


class _Deaf(LlamaForCausalLM):
    """Takes no keyword arguments for its loss."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        return self.loss_function(logits=self.lm_head(hidden), labels=labels, vocab_size=self.config.vocab_size)


class _Alone(LlamaForCausalLM):
    """Computes its loss by itself."""

    def forward(self, input_ids=None, labels=None, **kwargs):
        logits = self.lm_head(self.model(input_ids=input_ids)[0])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class _Uncounted(LlamaForCausalLM):
    """Gets no count of a step's tokens."""

    accepts_loss_kwargs = False


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (_Deaf, r"_Deaf.forward takes no \*\*kwargs"),
        (_Alone, "_Alone computes its loss by itself"),
        (_Uncounted, "_Uncounted sets accepts_loss_kwargs to False"),
    ],
)
def test_a_model_whose_loss_cannot_see_the_weights_is_refused(kind: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_token_weights(kind(LlamaConfig(**SIZES)))


def test_models_of_other_families_are_taken() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=29, n_embd=16, n_layer=1, n_head=2)).eval()
    apply_token_weights(model)
    batch = batch_of(demo_rows(4), with_teacher=False)
    whole = model(**batch, num_items_in_batch=torch.tensor(10.0)).loss
    batch["token_weights"] *= 3
    assert model(**batch, num_items_in_batch=torch.tensor(10.0)).loss.item() == pytest.approx(3 * whole.item())


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"kl_coef must be in \[0, 1\], got 2"):
        apply_token_weights(LlamaForCausalLM(LlamaConfig(**SIZES)), kl_coef=2)
