"""Train the student on the training data set, which is all it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.models import PRETRAINED, ModelParams, find_model, model_facts
from vcrd.records import MODELS, TRAINING
from vcrd.training.launch import launch_student, refuse_ranks
from vcrd.training.params import TrainParams

NAME = "student"


def facts(context: Context) -> dict[str, Any]:
    """The student's digests; the number of processes decides nothing but rounding."""
    refuse_ranks()
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, "student")


def build(context: Context, out: Path) -> WholeResult:
    """Train and save, in as many processes as VCRD_LAUNCHER starts."""
    student = find_model(context.read(MODELS), "student")
    launch_student(
        student.name,
        student.revision,
        context.inputs.folder(TRAINING.name),
        out,
        context.settings.get(TrainParams),
        seed=context.settings.seed,
    )
    return WholeResult(all_files(out))


STAGE = WholeStage(
    name="train_student",
    version=3,
    sections={"train": TrainParams},
    output=NAME,
    whole_inputs=(TRAINING.name,),
    also_reads=(MODELS.name,),
    facts=facts,
    build=build,
    splits=("train",),
)

if __name__ == "__main__":
    stage_main("stages.train_student")
