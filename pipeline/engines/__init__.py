"""Engines: they answer requests on token ids. Heavy packages are imported when an engine is loaded."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.engines.base import Engine, EngineParams, ModelRef, Task, check_model
from pipeline.engines.metered import metered
from vcrd.errors import ConfigError
from vcrd.requests import TokenHead

__all__ = ["Engine", "EngineParams", "ModelRef", "Task", "load_engine"]


def load_engine(
    params: EngineParams,
    path: str,
    revision: str | None,
    task: Task,
    head: TokenHead | None = None,
    *,
    role: str | None = None,
) -> Engine:
    """Load a model from a folder or the Hub, or meet its servers where they run the model of this role.

    An engine for `generate` also scores, one for `classify` reads `head`.

    Raises:
        ConfigError: The model is not there, or the engine's package is not installed, or a server does not answer.
    """
    model = ModelRef(path, revision)
    check_model(model)
    if role is not None and role in params.served:
        from pipeline.engines.server import ServerEngine, urls_of

        return metered(ServerEngine(params, model, task, urls_of(role)), role)
    package = "vllm" if params.name == "vllm" else "transformers"
    if find_spec(package) is None:
        raise ConfigError(f"engine.name is {params.name}, but {package} is not installed; see the README, or change it")
    if params.name == "vllm":
        from pipeline.engines.vllm import VllmEngine

        return metered(VllmEngine(params, model, task, head or TokenHead()), role)
    from pipeline.engines.transformers import TransformersEngine

    return metered(TransformersEngine(params, model, task, head or TokenHead()), role)
