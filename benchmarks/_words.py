"""Text that costs nothing to make: a vocabulary of letters and words, some of which end a line."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

VOCABULARY = 8192
STEP = 48
"""One word in so many ends a line, so that a random model's steps have this length on average."""

_LETTERS = ["<eos>", "<pad>", "<unk>", *string.ascii_lowercase, "\n"]
_WORDS = [f"w{index}" + (" " if index % STEP else "\n") for index in range(VOCABULARY - len(_LETTERS))]
_ENDS = np.array([len(_LETTERS) + index for index, word in enumerate(_WORDS) if word.endswith("\n")])
_INNER = np.setdiff1d(np.arange(len(_LETTERS), VOCABULARY), _ENDS)


def random_line(rng: np.random.Generator, tokens: int) -> list[int]:
    """Return the ids of a line of words."""
    return [*rng.choice(_INNER, tokens - 1).tolist(), int(rng.choice(_ENDS))]


def text_of(ids: list[int]) -> str:
    """Return the text of words."""
    return "".join(_WORDS[token - len(_LETTERS)] for token in ids)


def random_letters(rng: np.random.Generator, tokens: int) -> str:
    """Return a text that has one token a letter: words are written by models alone, nothing merges into one."""
    return "".join(rng.choice(list(string.ascii_lowercase), tokens))


def save_random_qwen(folder: Path, **shape: Any) -> None:
    """Save a stock Qwen2 with random weights, and its tokenizer class with this vocabulary."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, tie_word_embeddings=False, bos_token_id=None, eos_token_id=0, pad_token_id=1, **shape
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    in_bytes = [token.replace(" ", "Ġ").replace("\n", "Ċ") for token in [*_LETTERS, *_WORDS]]  # byte-level BPE's names
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(in_bytes)},
        merges=[],
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(folder)
