"""The models of a run: who plays which role, and the digests that tell whether they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from vcrd.errors import ConfigError, one_line
from vcrd.io.checkpoints import refuse_pickled
from vcrd.io.files import fingerprint, sha256_file
from vcrd.records import Model
from vcrd.tokenization import chat_template_fingerprint, load_tokenizer, tokenizer_fingerprint

ROLES = ("student", "teacher")
COMPLETER = "completer"
PRETRAINED = "pretrained"
_CONTENT = (".safetensors", ".bin", "config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleParams:
    """Where a role's model comes from."""

    source: Literal["local", "hub", "pretrain"]
    """local: a folder under models.path; hub: a Hub model; pretrain: made from the texts at models.path."""
    name: str
    """Folder under models.path, or Hub name (org/name); of a pre-trained one, any."""
    revision: str | None
    """Hub commit; null: the newest, whose commit is written down."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainTexts:
    """Tiny models made for a smoke test: their texts, their shared tokenizer, their shapes."""

    prompt: str
    """Column of the problems."""
    response: str
    """Column of the solutions."""
    vocabulary_size: Annotated[int, Ge(300)]
    """Of the byte-level BPE tokenizer trained on the same texts."""
    student: PretrainParams
    """Learns from the first half of the texts."""
    teacher: PretrainParams
    """Learns from all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParams:
    """The models; student and teacher must share a tokenizer."""

    path: str
    """Folder of local models, or the texts that tiny ones are pre-trained on."""
    student: RoleParams
    """Learns."""
    teacher: RoleParams
    """Proposes."""
    completer: RoleParams | None
    """Completes, where `completer.role` says so; null where student or teacher do."""
    pretrain: PretrainTexts | None
    """How roles with source pretrain are made; null where there is none."""


def roles_of(params: ModelParams) -> tuple[str, ...]:
    """Return the roles that a run has models for.

    Raises:
        ConfigError: The completer is to be pre-trained; only student and teacher are.
    """
    if params.completer is None:
        return ROLES
    if params.completer.source == "pretrain":
        raise ConfigError("models.completer.source is pretrain: only student and teacher are; give local or hub")
    return (*ROLES, COMPLETER)


def locate(role: str, params: ModelParams, pretrained: Path) -> tuple[str, str | None]:
    """Return the path or Hub name of a role's model, and its revision; no absolute path unless the user gave one."""
    chosen: RoleParams = getattr(params, role)
    if chosen.source == "hub":
        return chosen.name, chosen.revision
    if chosen.source == "local" and ".." in PurePath(chosen.name).parts:
        raise ConfigError(
            f"models.{role}.name is {chosen.name!r}, which leads out of models.path ({params.path}); "
            "set models.path to the folder that it lies in"
        )
    folder = pretrained / role if chosen.source == "pretrain" else Path(params.path) / chosen.name
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"models.{role}: {os.path.relpath(folder)} holds no config.json; give a saved transformers model, "
            "or set models.path and its name"
        )
    return os.path.relpath(folder), None


def describe_model(role: str, name: str, revision: str | None) -> Model:
    """Look a model up and take its digests; its weights are read, never loaded."""
    if Path(name).is_dir():
        refuse_pickled(Path(name))
    else:
        revision = _pin(name, revision)
    tokenizer = load_tokenizer(name, revision)
    return Model(
        role=role,
        name=name,
        revision=revision,
        weights_fingerprint=_weights_fingerprint(name, revision),
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        vocabulary_size=len(tokenizer),
        chat_template_fingerprint=chat_template_fingerprint(tokenizer),
    )


def _pin(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().model_info(name, revision=revision).sha)
    except (HfHubHTTPError, OSError, ValueError) as error:
        text = one_line(error, 160)
        raise ConfigError(f"Hub model {name!r} cannot be reached ({text}); check the name, or give a folder") from error


def _weights_fingerprint(name: str, revision: str | None) -> str:
    """Digest of a folder's weights and configuration; a Hub commit stands for its own content."""
    folder = Path(name)
    if not folder.is_dir():
        return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_CONTENT))
    return fingerprint([[path.name, sha256_file(path)] for path in files])


def refuse_other_tokenizers(models: Sequence[Model]) -> None:
    """Refuse models that would read the same ids as different text.

    Raises:
        ConfigError: Two tokenizers differ.
    """
    first = models[0]
    for other in models[1:]:
        if other.tokenizer_fingerprint != first.tokenizer_fingerprint:
            raise ConfigError(
                f"tokenizer mismatch: {first.role} {first.name} ({first.vocabulary_size} tokens) and {other.role} "
                f"{other.name} ({other.vocabulary_size} tokens) read the same ids as different text; "
                "take models of one family"
            )


def find_model(models: Sequence[Model], role: str) -> Model:
    """Return the model of a role.

    Raises:
        ConfigError: The run has none.
    """
    for model in models:
        if model.role == role:
            return model
    raise ConfigError(f"no model has the role {role!r}; set models.{role}, or completer.role to student or teacher")


def model_facts(models: Sequence[Model], params: ModelParams, pretrained: Path, *roles: str) -> dict[str, Any]:
    """Return what decides the answers of these roles' models, once it is sure that they are those of `models`.

    Raises:
        ConfigError: A model is not there, or it or its tokenizer is another than prepare_models saw.
    """
    for known in models:
        name, revision = locate(known.role, params, pretrained)
        if name != known.name or revision not in (None, known.revision):
            raise ConfigError(
                f"models.{known.role} is {name}, prepare_models saw {known.name}; run: python -m stages.prepare_models"
            )
        seen = tokenizer_fingerprint(load_tokenizer(name, known.revision))
        if seen != known.tokenizer_fingerprint:
            raise ConfigError(
                f"tokenizer mismatch: that of models.{known.role} {name} is not the one that prepare_models saw; "
                "restore it, or run: python -m stages.prepare_models"
            )
    return {
        "models": {
            role: [model.weights_fingerprint, model.tokenizer_fingerprint, model.chat_template_fingerprint]
            for role in roles
            for model in [find_model(models, role)]
        }
    }
