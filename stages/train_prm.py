"""Train the process reward model on the labels of the prm problems, or write down which one to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files, entry_of
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.progress import Progress
from vcrd.io.rejects import count_reasons
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.prm import SPEC_FILE, PrmParams, describe_labels, find_given, given_spec, training_rows, write_spec
from vcrd.prompts import PromptParams
from vcrd.records import LABELS, MODELS, PROPOSALS, ROLLOUTS
from vcrd.training.stepwise import read_stepwise, stepwise_digests

NAME, SPLITS = "prm", ("prm",)


def facts(context: Context) -> dict[str, Any]:
    """The digests of the backbone and of the steps that people labelled, or of the model that is given."""
    params = context.settings.get(PrmParams)
    given_spec(params, None, None, "")
    if params.source == "train":
        models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
        known = model_facts(context.read(MODELS), models, pretrained, params.train.base)
        return known | {"stepwise": stepwise_digests(params.train.stepwise)}
    if params.source == "none":
        return {}
    model = find_given(params, context.read(MODELS))
    return {"given": [model.weights_fingerprint, model.revision]}


def build(context: Context, out: Path) -> WholeResult:
    """Train, or point to what is given."""
    params = context.settings.get(PrmParams)
    if params.source == "train":
        return _train(context, params, out)
    if params.source == "none":
        write_spec(out, given_spec(params, None, None, "prm.source is none"))
    else:
        model = find_given(params, context.read(MODELS))
        write_spec(out, given_spec(params, model.name, model.revision, f"given: {model.name}"))
    return WholeResult(all_files(out))


def _train(context: Context, params: PrmParams, out: Path) -> WholeResult:
    base, settings = find_model(context.read(MODELS), params.train.base), context.settings
    labels = {item.proposal_id: item.label for item in context.read(LABELS, SPLITS)}
    people, rejects = read_stepwise(params.train.stepwise, base, settings.get(PromptParams))
    path, (reason, enough) = None, describe_labels(labels.values(), people, params.train.min_labels)
    if enough:
        from vcrd.training.prm import train_prm as train

        rows = [*training_rows(context.read(ROLLOUTS, SPLITS), context.read(PROPOSALS, SPLITS), labels), *people]
        with Progress("train_prm", len(rows) * params.train.epochs) as bar:
            losses = train(base.name, base.revision, rows, out, params.train, seed=settings.seed, progress=bar.advance)
        path, reason = ".", f"{reason}; loss {losses[0]:.3f} to {losses[-1]:.3f}"
    write_spec(out, given_spec(params, path, None, reason))
    counted = entry_of(SPEC_FILE, rows=len(people), expected=len(people) + len(rejects), rejects=count_reasons(rejects))
    return WholeResult([counted, *(entry for entry in all_files(out) if entry.file != SPEC_FILE)], rejects)


STAGE = WholeStage(
    name="train_prm",
    version=3,
    sections={"prm": PrmParams, "prompts": PromptParams},
    output=NAME,
    whole_inputs=(ROLLOUTS.name, PROPOSALS.name, LABELS.name),
    also_reads=(MODELS.name,),
    facts=facts,
    build=build,
    splits=SPLITS,
)

if __name__ == "__main__":
    stage_main("stages.train_prm")
