"""Tiny random models of every family of process reward models, saved as the real ones are.

A tokenizer is made for each layout: what must be one token is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, Qwen2Config, Qwen2ForCausalLM

from vcrd.prm import Family
from vcrd.training.pretrain import bpe_tokenizer

TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MAX_LENGTH = 512
PROBLEM = "Ann has 3 pens and buys 4 packs of 2. How many has she?"
STEPS = [
    "4 packs of 2 are 4*2=8 pens.",
    "With the 3 she had,\nthat is 3+8=11.",
    "Half of them + 1 - 1.",
    "So it is 11.",
]
OTHER = ["Bob reads 7 pages a day. And in 5 days?", ["He reads 7*5=35 pages.", "The answer is 35."]]


def tokenizer_of(chat: bool) -> Any:
    texts = [PROBLEM, *STEPS, "ки ки + - Yes No\n", "Yes\nNo\n"] * 20
    tokenizer = bpe_tokenizer(texts, 420)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]}
    )
    tokenizer.add_tokens([AddedToken("<extra_0>", special=True)], special_tokens=True)
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def shape(tokenizer: Any, **values: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 128,  # 32 a head: vLLM has no narrower ones on CPU
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_LENGTH,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **values,
    }


def save_classifier(folder: Path, tokenizer: Any) -> None:
    model = LlamaForTokenClassification(LlamaConfig(**shape(tokenizer), num_labels=2))
    with torch.no_grad():
        model.score.bias.copy_(torch.tensor([0.4, -0.2]))
    model.save_pretrained(folder)


def save_qwen_reward(folder: Path, tokenizer: Any) -> None:
    """As Qwen2.5-Math-PRM is stored: a backbone and a head of two layers under a class of its own."""
    model = Qwen2ForCausalLM(Qwen2Config(**shape(tokenizer), tie_word_embeddings=False))
    model.config.architectures = ["Qwen2ForProcessRewardModel"]
    model.config.auto_map = {
        "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
        "AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
    }
    layers = {"score.0": torch.nn.Linear(128, 128), "score.2": torch.nn.Linear(128, 2)}
    add_tensors(model, folder, layers, drop="lm_head.weight")


def save_value_head(folder: Path, tokenizer: Any) -> None:
    """As Skywork-o1-Open-PRM is stored: a language model with a value head beside it."""
    model = Qwen2ForCausalLM(Qwen2Config(**shape(tokenizer), tie_word_embeddings=False))
    model.config.architectures = ["Qwen2ForPrmModel"]
    add_tensors(model, folder, {"v_head.summary": torch.nn.Linear(128, 1)})


def add_tensors(model: Any, folder: Path, layers: dict[str, torch.nn.Linear], drop: str = "") -> None:
    architectures = model.config.architectures
    model.save_pretrained(folder)
    model.config.architectures = architectures
    model.config.save_pretrained(folder)
    tensors = {name: value for name, value in load_file(folder / "model.safetensors").items() if name != drop}
    for name, layer in layers.items():
        tensors |= {f"{name}.weight": layer.weight.detach() * 3, f"{name}.bias": layer.bias.detach()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_language_model(folder: Path, tokenizer: Any, tied: bool = False) -> None:
    LlamaForCausalLM(LlamaConfig(**shape(tokenizer), tie_word_embeddings=tied)).save_pretrained(folder)


SAVE: dict[Family, tuple[Callable[[Path, Any], None], bool]] = {
    "token_classification": (save_classifier, False),
    "qwen_math_prm": (save_qwen_reward, True),
    "math_shepherd": (save_language_model, False),
    "rlhflow": (save_language_model, True),
    "skywork": (save_value_head, False),
    "generative": (lambda folder, tokenizer: save_language_model(folder, tokenizer, tied=True), True),
}


def save_tiny(family: Family, folder: Path) -> str:
    """Save a model and its tokenizer; the same ones every time."""
    save, chat = SAVE[family]
    torch.manual_seed(7)
    tokenizer = tokenizer_of(chat)
    save(folder, tokenizer)
    tokenizer.save_pretrained(folder)
    return str(folder)
