"""Look up the models and take their digests; refuse models that do not share a tokenizer."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli import stage_main
from pipeline.shards import shard_file, write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.manifest import read_manifest
from vcrd.models import PRETRAINED, ModelParams, describe_model, locate, refuse_other_tokenizers, roles_of
from vcrd.records import MODELS, Model


def _describe(context: Context) -> list[Model]:
    read_manifest(context.inputs.folder(PRETRAINED))
    params, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    models = [describe_model(role, *locate(role, params, pretrained)) for role in roles_of(params)]
    refuse_other_tokenizers(models)
    return models


def facts(context: Context) -> dict[str, object]:
    """The models' digests, refusing what cannot work together."""
    return {"digests": [[model.weights_fingerprint, model.tokenizer_fingerprint] for model in _describe(context)]}


def build(context: Context, out: Path) -> WholeResult:
    """Write a row per role."""
    models = _describe(context)
    return write_shards(out, MODELS, [(shard_file(0), models, [])], len(models))


STAGE = WholeStage(
    name="prepare_models",
    version=1,
    sections={"models": ModelParams},
    output=MODELS.name,
    whole_inputs=(PRETRAINED,),
    paths=("models.path",),
    facts=facts,
    build=build,
)

if __name__ == "__main__":
    stage_main("stages.prepare_models")
