"""Pre-train tiny models for the roles that ask for it (smoke tests); an empty folder where none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.errors import ConfigError
from vcrd.io.files import sha256_file
from vcrd.models import PRETRAINED, ROLES, ModelParams
from vcrd.prompts import PromptParams


def facts(context: Context) -> dict[str, Any]:
    """The texts' content, where there are any."""
    params = context.settings.get(ModelParams)
    wanted = [role for role in ROLES if getattr(params, role).source == "pretrain"]
    if not wanted:
        return {"texts": None}
    if params.pretrain is None:
        raise ConfigError(f"models.{wanted[0]}.source is pretrain, but models.pretrain is null; say how, or change it")
    if not Path(params.path).is_file():
        raise ConfigError(f"models.path: no file {params.path}; give the texts (.jsonl[.gz] or a source card)")
    return {"texts": sha256_file(Path(params.path))}


def build(context: Context, out: Path) -> WholeResult:
    """Train a tokenizer and the models."""
    from vcrd.training.pretrain import pretrain_roles

    pretrain_roles(
        context.settings.get(ModelParams), context.settings.get(PromptParams), out, seed=context.settings.seed
    )
    return WholeResult(all_files(out))


STAGE = WholeStage(
    name="pretrain_models",
    version=1,
    sections={"models": ModelParams, "prompts": PromptParams},
    output=PRETRAINED,
    paths=("models.path",),
    facts=facts,
    build=build,
)

if __name__ == "__main__":
    stage_main("stages.pretrain_models")
