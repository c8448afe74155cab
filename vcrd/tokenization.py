"""Tokenizers: loading, identity, and where each token ends in the text.

Token ids are the truth and text is for people: nothing here, or behind it, tokenizes a text that a model wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError, first_line
from vcrd.io.checkpoints import NO_CODE

Decode = Callable[[Sequence[int]], str]

_CONTEXT = 4


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """Load a fast tokenizer from a folder or the Hub; no remote code.

    Raises:
        ConfigError: There is none under this name.
    """
    from transformers import AutoTokenizer

    if not Path(name).is_dir() and (name.startswith(("/", ".")) or name.count("/") > 1):
        raise ConfigError(f"model {name!r}: no such folder; give a local folder or a Hub name (org/name)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, **NO_CODE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {name!r}: its tokenizer cannot be loaded ({first_line(error)})") from error
    if not tokenizer.is_fast:
        raise ConfigError(f"model {name!r}: expected a fast tokenizer (tokenizer.json), got a slow one")
    return tokenizer


def decoder(tokenizer: Any) -> Decode:
    """Return a function from ids to text that leaves special tokens out and changes no space."""

    def decode(token_ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    return decode


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Digest of everything that decides ids: vocabulary, merges, normalisation, added tokens."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def chat_template_fingerprint(tokenizer: Any) -> str:
    """Digest of the chat template; of nothing where there is none."""
    return hashlib.sha256(str(tokenizer.chat_template or "").encode()).hexdigest()


def token_char_ends(token_ids: Sequence[int], decode: Decode) -> list[int]:
    """Return for each token the length of the text up to and including it.

    A token that leaves a character unfinished ends where the text before that character ends. A few tokens of context
    are decoded along, as some tokenizers drop a space at the start of what they decode.
    """
    ends: list[int] = []
    length = start = 0
    for index in range(len(token_ids)):
        context = max(start - _CONTEXT, 0)
        before = decode(token_ids[context:start])
        piece = decode(token_ids[context : index + 1])[len(before) :]
        unfinished = piece.endswith("�") and index + 1 - start < 4 and index + 1 < len(token_ids)
        if not unfinished:
            length += len(piece)
            start = index + 1
        ends.append(length)
    return ends
