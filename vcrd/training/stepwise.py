"""Steps that people labelled, from a file: what is in it, and training rows of it for one backbone."""

from __future__ import annotations

from pathlib import Path

from vcrd.io.checkpoints import NO_CODE
from vcrd.io.files import sha256_file
from vcrd.io.rejects import Reject
from vcrd.io.sources import read_source
from vcrd.prm import PrmRow, stepwise_rows
from vcrd.prompts import PromptParams
from vcrd.records import Model
from vcrd.tokenization import load_tokenizer


def stepwise_digests(path: str | None) -> list[list[str]]:
    """Return the names and digests of a source's files; nothing where there is none.

    Raises:
        ConfigError: There is no such source.
    """
    if path is None:
        return []
    read_source(Path(path))
    folder = Path(path)
    files = sorted(folder.glob("**/*.parquet")) if folder.is_dir() else [folder]
    return [[file.name, sha256_file(file)] for file in files]


def read_stepwise(path: str | None, base: Model, prompts: PromptParams) -> tuple[list[PrmRow], list[Reject]]:
    """Read labelled steps as training rows of a model; every row of the file becomes one or a reject.

    Raises:
        ConfigError: There is no such source.
        SchemaError: The file cannot be read.
    """
    if path is None:
        return [], []
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.name, revision=base.revision, **NO_CODE)
    tokenizer = load_tokenizer(base.name, base.revision)
    return stepwise_rows(read_source(Path(path))[1], tokenizer, prompts, config.max_position_embeddings)
