"""Tiny stock Qwen2 models, trained on the spot from (prompt, response) texts, for the demo and for smoke tests.

Made for what a laptop can do in minutes: wide initialisation and untied embeddings, without which such small models
barely learn in that time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from vcrd.errors import ConfigError

IGNORED = -100
_BUCKET_BATCHES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainParams:
    """Shape and schedule of a tiny model."""

    hidden_size: Annotated[int, Ge(8)]
    """Width."""
    layers: Annotated[int, Ge(1)]
    """Depth."""
    heads: Annotated[int, Ge(1)]
    """Attention heads, as many for keys and values."""
    intermediate_size: Annotated[int, Ge(8)]
    """Width of the feed-forward part."""
    max_position: Annotated[int, Ge(16)]
    """Longest sequence the model takes; longer training texts are left out."""
    steps: Annotated[int, Ge(1)]
    """Optimiser steps."""
    batch_size: Annotated[int, Ge(1)]
    """Texts per step."""
    learning_rate: Annotated[float, Gt(0)]
    """Peak, after a tenth of the steps; then linear to zero."""


def pretrain(
    texts: Sequence[tuple[str, str]],
    tokenizer: Any,
    params: PretrainParams,
    output_dir: Path,
    *,
    seed: int,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Train a stock Qwen2 model on the responses (and their EOS) and save it, its tokenizer beside it.

    Raises:
        ConfigError: No text fits `max_position`.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    rows = [_tokenize(tokenizer, prompt, response) for prompt, response in texts]
    rows = [row for row in rows if len(row[0]) <= params.max_position]
    if not rows:
        raise ConfigError(f"none of {len(texts)} texts fits in {params.max_position} tokens (max_position)")
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=params.hidden_size,
            num_hidden_layers=params.layers,
            num_attention_heads=params.heads,
            num_key_value_heads=params.heads,
            intermediate_size=params.intermediate_size,
            max_position_embeddings=params.max_position,
            initializer_range=0.1,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=0.01)
    warmup = max(params.steps // 10, 1)
    model.train()
    for step, batch in zip(range(params.steps), _batches(rows, params.batch_size, seed), strict=False):
        for group in optimizer.param_groups:
            left = (params.steps - step) / max(params.steps - warmup, 1)
            group["lr"] = params.learning_rate * min((step + 1) / warmup, left)
        loss = model(**_collate(batch, tokenizer.pad_token_id)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == params.steps - 1:
            log(f"step {step}/{params.steps}: loss {float(loss.detach()):.4f}")
    save(model, tokenizer, output_dir)


def save(model: Any, tokenizer: Any, output_dir: Path) -> None:
    """Save safetensors, configuration and tokenizer; nothing that tells where or when."""
    model.config._name_or_path = ""
    model.save_pretrained(output_dir, safe_serialization=True)
    tokenizer.save_pretrained(output_dir)


def _tokenize(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], int]:
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    response_ids = tokenizer.encode(response, add_special_tokens=False)
    return [*prompt_ids, *response_ids, tokenizer.eos_token_id], len(prompt_ids)


def _batches(
    rows: Sequence[tuple[list[int], int]], batch_size: int, seed: int
) -> Iterator[list[tuple[list[int], int]]]:
    """Go through shuffled rows for ever, in batches of similar length."""
    rng = random.Random(seed)
    while True:
        order = list(range(len(rows)))
        rng.shuffle(order)
        chunk = batch_size * _BUCKET_BATCHES
        for start in range(0, len(order), chunk):
            bucket = sorted(order[start : start + chunk], key=lambda index: len(rows[index][0]))
            batches = [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
            rng.shuffle(batches)
            for batch in batches:
                yield [rows[index] for index in batch]


def _collate(batch: Sequence[tuple[list[int], int]], pad: int) -> dict[str, Any]:
    import torch

    width = max(len(ids) for ids, _ in batch)
    input_ids = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), width), IGNORED)
    attention = torch.zeros((len(batch), width), dtype=torch.long)
    for row, (ids, prompt_length) in enumerate(batch):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
        attention[row, : len(ids)] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention}


def bpe_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """Train a byte-level BPE tokenizer; decoding gives every text back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", clean_up_tokenization_spaces=False
    )
