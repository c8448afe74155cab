"""The model that training is measured with: small beside its vocabulary, as students of large teachers are."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


def small_qwen(vocabulary_size: int, key_value_heads: int = 8) -> Any:
    """Build a Qwen2 of 25.7 million parameters (8 key-value heads) beside its tied embedding, with random weights."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary_size,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)
