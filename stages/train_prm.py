"""Train the process reward model on the labels of the prm problems, or write down which one to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.progress import Progress
from vcrd.models import PRETRAINED, ModelParams, describe_model, find_model, model_facts
from vcrd.prm import PrmParams, PrmSpec, training_rows, write_spec
from vcrd.records import LABELS, MODELS, PROPOSALS, ROLLOUTS

NAME = "prm"


def facts(context: Context) -> dict[str, Any]:
    """The digests of the backbone, or of the model that is given."""
    params = context.settings.get(PrmParams)
    if params.source == "train":
        models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
        return model_facts(context.read(MODELS), models, pretrained, params.train.base)
    if params.source == "none":
        return {}
    model = describe_model("prm", params.name or "", params.revision)
    return {"given": [model.weights_fingerprint, model.revision]}


def build(context: Context, out: Path) -> WholeResult:
    """Train, or point to what is given."""
    params = context.settings.get(PrmParams)
    if params.source == "train":
        write_spec(out, _train(context, params, out))
    elif params.source == "none":
        write_spec(out, PrmSpec(family=params.family, path=None, revision=None, reason="prm.source is none"))
    else:
        model = describe_model("prm", params.name or "", params.revision)
        write_spec(out, PrmSpec(family=params.family, path=model.name, revision=model.revision, reason="given"))
    return WholeResult(all_files(out))


def _train(context: Context, params: PrmParams, out: Path) -> PrmSpec:
    labels = {item.proposal_id: item.label for item in context.read(LABELS) if item.split == NAME}
    known = {name: label for name, label in labels.items() if label is not None}
    said = f"{len(known)} labels of {len(labels)} steps, {sum(known.values())} of them sound"
    if len(known) < params.train.min_labels or len(set(known.values())) < 2:
        reason = f"not trained: {said}; prm.train.min_labels is {params.train.min_labels} and both kinds are needed"
        return PrmSpec(family=params.family, path=None, revision=None, reason=reason)
    from vcrd.training.prm import train_prm

    base = find_model(context.read(MODELS), params.train.base)
    rows = training_rows(context.read(ROLLOUTS), context.read(PROPOSALS), known)
    with Progress("train_prm", len(rows) * params.train.epochs) as progress:
        losses = train_prm(
            base.name, base.revision, rows, out, params.train, seed=context.settings.seed, progress=progress.advance
        )
    reason = f"trained on {said}; loss {losses[0]:.3f} to {losses[-1]:.3f}"
    return PrmSpec(family="token_classification", path=".", revision=None, reason=reason)


STAGE = WholeStage(
    name="train_prm",
    version=1,
    sections={"prm": PrmParams},
    output=NAME,
    whole_inputs=(ROLLOUTS.name, PROPOSALS.name, LABELS.name),
    also_reads=(MODELS.name,),
    facts=facts,
    build=build,
)

if __name__ == "__main__":
    stage_main("stages.train_prm")
