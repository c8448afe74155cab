"""One run: a method on a pool."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from benchmarks.experiments.clock import core_seconds
from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.pool import pool_seconds
from benchmarks.experiments.records import PlannedRun, Run
from benchmarks.experiments.testing import test
from benchmarks.experiments.training import Schooling, train
from benchmarks.rivals import METHODS
from vcrd.training.params import TrainParams


def make_run(planned: PlannedRun, pool: Pool) -> Run:
    """Train a student by a method, and test it once."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    method, size = METHODS[planned.method], pool.place.size
    needed = sum(pool.generated[name] for name in method.needs)
    schooling = Schooling(
        steps=size.optimiser_steps,
        step_tokens=size.step_tokens,
        params=replace(pool.settings.get(TrainParams), learning_rate=planned.learning_rate),
        seed=planned.distill_seed,
    )
    started = core_seconds()
    student = pool.place.models / "student"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    if method.lesson is not None:
        steps, served = train(model, tokenizer, method.lesson(pool), schooling, method.kl_coef)
    else:
        assert method.school is not None, f"{method.name} neither has a lesson nor trains by itself"
        steps, served, own = method.school(model, tokenizer, pool, schooling)
        needed += own
    mark = test(model, tokenizer, pool)
    return Run(
        run_id=planned.run_id,
        domain=planned.domain,
        method=planned.method,
        pretrain_seed=planned.pretrain_seed,
        distill_seed=planned.distill_seed,
        accuracy=mark.accuracy,
        step_validity=mark.step_validity,
        n=mark.n,
        optimiser_steps=steps,
        supervised_tokens=served,
        generated_tokens=needed,
        learning_rate=planned.learning_rate,
        seconds=round(core_seconds() - started, 2),
        pool_seconds=pool_seconds(pool.place),
    )
