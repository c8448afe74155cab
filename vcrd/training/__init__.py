"""Training: the weighted trainer that only reads the data set, its parts for other trainers, and small models.

The public names are loaded when they are asked for: not every use of this package needs torch, or TRL.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "DataCollatorForWeightedLanguageModeling": "collator",
    "WeightedLossMixin": "mixin",
    "WeightedSFTConfig": "config",
    "WeightedSFTTrainer": "trainer",
    "add_weighted_head": "head",
    "apply_token_weights": "plugs",
    "load_training_dataset": "dataset",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
