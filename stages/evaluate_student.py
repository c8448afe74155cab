"""Test the student before and after, and the teacher, on the held-out problems; the first reader of an oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.engines import EngineParams, load_engine
from pipeline.shards import shard_file, write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.domains import oracle_for
from vcrd.evaluation import EvaluationParams, evaluation_requests, read_evaluation, summarise
from vcrd.io.parquet import shard_files, stream_rows
from vcrd.io.progress import Progress
from vcrd.models import PRETRAINED, ROLES, ModelParams, find_model, model_facts
from vcrd.prompts import PromptParams
from vcrd.records import EVALUATION, MODELS, PROBLEMS
from vcrd.tokenization import decoder
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

STUDENT = "student"


def facts(context: Context) -> dict[str, Any]:
    """The digests of the models that are tested beside the trained one."""
    models, pretrained = context.settings.get(ModelParams), context.inputs.folder(PRETRAINED)
    return model_facts(context.read(MODELS), models, pretrained, "student", "teacher")


def build(context: Context, out: Path) -> WholeResult:
    """Let one model after the other answer every test problem."""
    settings, known = context.settings, context.read(MODELS)
    problems = context.read(PROBLEMS, ("test",))[: context.limit]
    student, teacher = ((model.name, model.revision, role) for role in ROLES for model in [find_model(known, role)])
    tested = {"before": student, "after": (str(context.inputs.folder(STUDENT)), None, None), "teacher": teacher}
    verifier, shards = DomainVerifier(settings.get(VerifierParams)), []
    oracle = oracle_for(problems[0].source) if problems else None
    for index, (model, (path, revision, role)) in enumerate(tested.items()):
        engine = load_engine(settings.get(EngineParams), path, revision, "generate", role=role)
        requests = evaluation_requests(
            problems, model, engine.tokenizer, settings.get(PromptParams), settings.get(EvaluationParams)
        )
        with Progress(f"evaluate {model}", len(requests)) as progress:
            answers = engine.generate(requests, progress.advance_tokens)
            progress.advance(len(answers))
        engine.close()
        rows, rejects = read_evaluation(problems, model, answers, decoder(engine.tokenizer), verifier, oracle)
        shards.append((shard_file(index), rows, rejects))
    return write_shards(out, EVALUATION, shards, len(problems) * len(tested))


def summary(context: Context, folder: Path) -> dict[str, Any]:
    """Accuracy of each model."""
    return summarise(stream_rows(shard_files(folder), EVALUATION.schema))


STAGE = WholeStage(
    name="evaluate_student",
    version=1,
    sections={
        "prompts": PromptParams,
        "verifier": VerifierParams,
        "engine": EngineParams,
        "evaluation": EvaluationParams,
    },
    output=EVALUATION.name,
    whole_inputs=(PROBLEMS.name, STUDENT),
    also_reads=(MODELS.name,),
    facts=facts,
    build=build,
    summary=summary,
)

if __name__ == "__main__":
    stage_main("stages.evaluate_student")
