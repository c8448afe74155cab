"""How a model of somebody else's is loaded: its tensors alone. None of its code is imported, nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

from vcrd.errors import ConfigError, first_line

NO_CODE = {"trust_remote_code": False}
"""For `from_pretrained` of configurations and tokenizers; left out, a person at a terminal is asked."""
ONLY_TENSORS = {**NO_CODE, "use_safetensors": True}
"""For `from_pretrained` of models."""
_REMEDY = (
    "only safetensors are read, as pickled weights can run code; take a revision that has them (the Hub converts: "
    "refs/pr/N), or load the model where you trust it and save it again with save_pretrained"
)


def not_loaded(name: str, error: Exception) -> ConfigError:
    """Return a library's error as ours, with what to do about pickled weights and about code that is needed."""
    said = first_line(error)
    if "trust_remote_code" in str(error):
        return ConfigError(f"model {name!r} cannot be loaded: it needs code of its own, and none is run; take another")
    return ConfigError(
        f"model {name!r} cannot be loaded: {said}{f'; {_REMEDY}' if 'safetensors' in str(error) else ''}"
    )


def refuse_pickled(folder: Path) -> None:
    """Refuse a local model whose weights are pickled, before anything is loaded.

    Raises:
        ConfigError: It has such weights, and no others.
    """
    pickled = sorted(path.name for kind in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{kind}"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ConfigError(f"{folder} holds {pickled[0]} and no *.safetensors: {_REMEDY}")
