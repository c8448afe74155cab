"""Tiny random models with a tokenizer of as many words, saved as real ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 48
EOS = 1


def save_model(folder: Path, kind: str, classes: int = 0, **values: Any) -> str:
    """Save a random model of a kind that transformers knows; with `classes`, a token classifier."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": EOS,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(3)
    config = CONFIG_MAPPING[kind](**{**shape, **values})
    if classes:
        config.num_labels = classes
        AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    else:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = {f"w{index}": index for index in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1", pad_token="w0").save_pretrained(folder)
    return str(folder)
