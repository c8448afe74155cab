"""Heads that classify tokens, on transformers' own backbones: no code that comes with a checkpoint runs.

A checkpoint with a head that transformers has no class for is read in two parts: the backbone by its configuration, the
head from its tensors.

Axis letters: B sequences, T tokens, H hidden, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.utils import cached_file, logging

from pipeline.engines.base import ModelRef
from vcrd.errors import ConfigError
from vcrd.io.checkpoints import ONLY_TENSORS
from vcrd.io.files import read_json, safe_path
from vcrd.requests import TokenHead

_WEIGHTS = "model.safetensors"
_REWARD_MODEL = "ProcessRewardModel"


class TokenClassifier(torch.nn.Module):
    """A backbone and a float32 head on its last hidden states."""

    def __init__(self, backbone: Any, layers: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers

    def head(self, hidden_TH: torch.Tensor) -> torch.Tensor:
        """Return logits, [..., C], for hidden states, [..., H]."""
        logits_TC: torch.Tensor = self.layers(hidden_TH.float())
        return logits_TC

    def forward(self, input_ids_BT: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
        """Return logits, [B, T, C]."""
        return self.head(self.backbone(input_ids=input_ids_BT, attention_mask=mask_BT).last_hidden_state)


class StockClassifier(torch.nn.Module):
    """A token classifier that transformers has a class for."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def backbone(self) -> Any:
        """What lies below the head."""
        return self.model.base_model

    def head(self, hidden_TH: torch.Tensor) -> torch.Tensor:
        """Return logits, [..., C], for hidden states, [..., H]; decoders' heads have this name, encoders' have not."""
        logits_TC: torch.Tensor = self.model.score(hidden_TH).float()
        return logits_TC

    def forward(self, input_ids_BT: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
        """Return logits, [B, T, C]."""
        logits_BTC: torch.Tensor = self.model(input_ids=input_ids_BT, attention_mask=mask_BT).logits.float()
        return logits_BTC


def load_classifier(model: ModelRef, config: Any, head: TokenHead, dtype: torch.dtype) -> torch.nn.Module:
    """Load a backbone and the head that is asked for.

    Raises:
        ConfigError: The checkpoint has no such head.
    """
    options = {"revision": model.revision, "dtype": dtype, **ONLY_TENSORS}
    architectures = config.architectures or []
    if head.kind == "tokens":
        causal = AutoModelForCausalLM.from_pretrained(model.path, **options)
        return TokenClassifier(causal.base_model, _label_head(causal.get_output_embeddings(), head))
    if head.kind == "value":
        tensors = read_tensors(model, "v_head.summary.")
        return TokenClassifier(_backbone(model, options), _linear(tensors, "", model))
    if any(name.endswith(_REWARD_MODEL) for name in architectures):
        tensors = read_tensors(model, "score.")
        layers = torch.nn.Sequential(_linear(tensors, "0.", model), torch.nn.ReLU(), _linear(tensors, "2.", model))
        return TokenClassifier(_backbone(model, options), layers)
    if any("TokenClassification" in name for name in architectures):
        return StockClassifier(AutoModelForTokenClassification.from_pretrained(model.path, **options))
    raise ConfigError(
        f"model {model.path!r} is a {config.architectures}, which has no classes for tokens; give a token classifier "
        "or a process reward model, and set prm.family to its layout"
    )


def _backbone(model: ModelRef, options: Mapping[str, Any]) -> Any:
    """Load a backbone; that the head's tensors are left over is meant, and no warning."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return AutoModel.from_pretrained(model.path, **options)
    finally:
        logging.set_verbosity(before)


def _label_head(output_embeddings: Any, head: TokenHead) -> torch.nn.Linear:
    """Keep the label tokens' rows of the language model's head: [C, H] for [V, H]."""
    rows = list(head.label_ids)
    tensors = {"weight": output_embeddings.weight.detach()[rows]}
    if getattr(output_embeddings, "bias", None) is not None:
        tensors["bias"] = output_embeddings.bias.detach()[rows]
    return _as_linear(tensors["weight"], tensors.get("bias"))


def _linear(tensors: Mapping[str, torch.Tensor], prefix: str, model: ModelRef) -> torch.nn.Linear:
    if prefix + "weight" not in tensors:
        found = sorted(tensors) or "none"
        raise ConfigError(
            f"model {model.path!r} lacks the head that its layout reads ({prefix}weight; found: {found}); "
            "check prm.family and prm.name"
        )
    return _as_linear(tensors[prefix + "weight"], tensors.get(prefix + "bias"))


def _as_linear(weight_CH: torch.Tensor, bias_C: torch.Tensor | None) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight_CH.shape[1], weight_CH.shape[0], bias=bias_C is not None)
    with torch.no_grad():
        layer.weight.copy_(weight_CH)
        if bias_C is not None:
            layer.bias.copy_(bias_C)
    return layer


def read_tensors(model: ModelRef, prefix: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint whose names begin with `prefix`, without it; the rest stays on the disk."""
    if (index := _find(model, f"{_WEIGHTS}.index.json")) is not None:
        places = read_json(index)["weight_map"]
        files = sorted({file for key, file in places.items() if key.startswith(prefix)})
    else:
        files = [_WEIGHTS]
    found = [path for file in files if (path := _find(model, safe_path(file, index))) is not None]
    return {key: value for path in found for key, value in _read_file(path, prefix).items()}


def _find(model: ModelRef, name: str) -> Path | None:
    found = cached_file(model.path, name, revision=model.revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _read_file(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
