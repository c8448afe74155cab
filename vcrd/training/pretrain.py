"""Tiny stock Llama models, trained on the spot from (prompt, response) texts, for the demo and for smoke tests.

Made for what a laptop can do in minutes: wide initialisation and untied embeddings, without which such small models
barely learn in that time. Llama, as its models take any fast tokenizer: `AutoTokenizer` gives those of type `qwen2` the
pre-tokenizer of Qwen's own, whatever their tokenizer.json says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError
from vcrd.io.progress import Progress
from vcrd.io.sources import read_source
from vcrd.models import ROLES, ModelParams, PretrainParams
from vcrd.prompts import PromptParams
from vcrd.records import IGNORED

_BUCKET_BATCHES = 16


def pretrain(
    texts: Sequence[tuple[str, str]],
    tokenizer: Any,
    params: PretrainParams,
    output_dir: Path,
    *,
    seed: int,
    step: Callable[[int], None] = lambda count: None,
) -> None:
    """Train a stock Llama model on the responses (and their EOS) and save it, its tokenizer beside it.

    Raises:
        ConfigError: No text fits `max_position`.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    rows = [_tokenize(tokenizer, prompt, response) for prompt, response in texts]
    rows = [row for row in rows if len(row[0]) <= params.max_position]
    if not rows:
        raise ConfigError(f"none of {len(texts)} texts fits in {params.max_position} tokens (max_position)")
    model = LlamaForCausalLM(
        LlamaConfig(
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
    for done, batch in zip(range(params.steps), _batches(rows, params.batch_size, seed), strict=False):
        for group in optimizer.param_groups:
            left = (params.steps - done) / max(params.steps - warmup, 1)
            group["lr"] = params.learning_rate * min((done + 1) / warmup, left)
        loss = model(**_collate(batch, tokenizer.pad_token_id)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step(1)
    save(model, tokenizer, output_dir)


def pretrain_roles(models: ModelParams, prompts: PromptParams, output_dir: Path, *, seed: int) -> None:
    """Make the roles that ask for it, with one tokenizer trained on the same texts, into `output_dir / role`.

    Raises:
        ConfigError: The texts lack the columns, or the file cannot be read.
    """
    how = models.pretrain
    if how is None:
        return
    texts = []
    for row in read_source(Path(models.path))[1]:
        values = row.values or {}
        prompt, response = values.get(how.prompt), values.get(how.response)
        if not isinstance(prompt, str) or not isinstance(response, str):
            raise ConfigError(f"{models.path}, {row.place}: expected texts in columns {how.prompt} and {how.response}")
        texts.append((prompts.template.replace("{prompt}", prompt), response))
    tokenizer = bpe_tokenizer((prompt + response for prompt, response in texts), how.vocabulary_size)
    for number, role in enumerate(ROLES):
        if getattr(models, role).source != "pretrain":
            continue
        shape: PretrainParams = getattr(how, role)
        mine = texts[: len(texts) // 2] if role == "student" else texts
        with Progress(f"pretrain {role}", shape.steps, "step") as progress:
            pretrain(mine, tokenizer, shape, output_dir / role, seed=seed + number, step=progress.advance)


def save(model: Any, tokenizer: Any, output_dir: Path, *, state: dict[str, Any] | None = None) -> None:
    """Save safetensors, configuration and tokenizer; nothing that tells where or when. `state`: gathered weights."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.config._name_or_path = ""
    model.save_pretrained(output_dir, safe_serialization=True, state_dict=state)
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
