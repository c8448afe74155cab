"""The same bytes whatever the workers, the order of the input, kills and resumes; near-equal ones across batches."""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.claims import state
from benchmarks.faults.demo import MODELS, Demo, demo_rows
from pipeline.engines import Engine, EngineParams, load_engine
from vcrd.errors import VcrdError
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, ScoreRequest, derive_seed
from vcrd.rollouts import RolloutParams

STAGES = ("generate_rollouts", "propose_steps")
ARTEFACTS = ("rollouts", "proposals")
BATCHES = (1, 7, 64)
NEAR = 1e-5
_Digests = list[dict[str, str]]


def digests(demo: Demo, workers: int) -> _Digests:
    """Run the model stages, and digest what they wrote."""
    demo.prepare().make(*STAGES, workers=workers)
    return [demo.digests(name) for name in ARTEFACTS]


def disturbed(folder: Path, count: int, seed: int, kills: int, workers: Sequence[int] = (2, 4)) -> dict[str, bool]:
    """Run the model stages under other workers, in another order, and killed; tell which gave the same bytes."""
    rows = demo_rows(count)
    expected = digests(Demo(folder / "undisturbed", rows), 1)
    same = {
        f"{number} workers": digests(Demo(folder / f"workers-{number}", rows), number) == expected for number in workers
    }
    shuffled = random.Random(seed).sample(rows, len(rows))
    same["shuffled input"] = digests(Demo(folder / "shuffled", shuffled), 1) == expected
    demo = Demo(folder / "killed", rows).prepare()
    rng = random.Random(seed)
    killed = sum(_killed(demo, stage, rng.randrange(3)) for stage in STAGES for _ in range(kills))
    same[f"killed {killed} times and resumed"] = killed > 0 and digests(demo, 1) == expected
    return same


def _killed(demo: Demo, stage: str, after: int) -> bool:
    """Run a stage of two workers and, after so many more shards, kill these and all that take their places.

    Returns:
        Whether that ended the run.
    """
    scratch, over = demo.context.layout.scratch(stage), threading.Event()

    def committed() -> int:
        return len(list(scratch.glob("part-*.json")))

    def workers() -> list[psutil.Process]:
        # Beside them there is what tracks their semaphores, and a verifier's process.
        return [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]

    def kill() -> None:
        while not over.is_set():
            if committed() >= wanted:
                for process in workers():
                    process.kill()
            time.sleep(0.02)

    wanted = committed() + after
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        demo.make(stage, workers=2)
    except VcrdError:
        return True
    finally:
        over.set()
        thread.join()
    return False


@dataclass
class Agreement:
    """How far answers of the same requests agree.

    Attributes:
        answers: Compared.
        equal: With the same tokens.
        ties: Others, whose first difference is between two candidates within `NEAR`.
        apart: The rest.
        logprob: Largest difference of a log-probability of equal answers.
    """

    answers: int = 0
    equal: int = 0
    ties: int = 0
    apart: int = 0
    logprob: float = 0.0

    @property
    def rate(self) -> float:
        """Share with the same tokens."""
        return self.equal / self.answers


def requests_of(demo: Demo, engine: Engine, temperature: float) -> list[GenerateRequest]:
    """Ask for a solution of every problem."""
    prompts = [engine.tokenizer.encode(row["prompt"] + "\n") for row in demo.rows("problems")]
    sampling = Sampling(max_tokens=64, temperature=temperature, top_k_logprobs=4)
    names = [f"t{temperature}/{index}" for index in range(len(prompts))]
    return [
        GenerateRequest(id=name, prompt_ids=ids, seed=derive_seed(1, name), sampling=sampling)
        for name, ids in zip(names, prompts, strict=True)
    ]


def compare(engine: Engine, asked: Sequence[GenerateRequest], first: Sequence[Any], second: Sequence[Any]) -> Agreement:
    """Compare two lots of answers; `engine` tells how near the candidates were."""
    found = Agreement(answers=len(asked))
    for request, one, other in zip(asked, first, second, strict=True):
        assert isinstance(one, Generation)
        assert isinstance(other, Generation)
        if one.token_ids == other.token_ids:
            found.equal += 1
            found.logprob = max(found.logprob, float(np.abs(one.logprobs - other.logprobs).max(initial=0.0)))
        elif _nearly_tied(engine, request, one.token_ids, other.token_ids):
            found.ties += 1
        else:
            found.apart += 1
    return found


def _nearly_tied(engine: Engine, request: GenerateRequest, one: list[int], other: list[int]) -> bool:
    """Tell whether a sampled token, or a greedy one, was chosen between two that lie within `NEAR`."""
    at = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return False
    ids = [*request.prompt_ids, *one[: at + 1]]
    size = len(engine.tokenizer)
    scores = engine.score([ScoreRequest(id="tie", token_ids=ids, start=len(ids) - 1, top_k_logprobs=size)])[0]
    assert not isinstance(scores, Failure)
    assert scores.top is not None
    logprobs = np.full(size, -np.inf)
    kept = scores.top.ids[0] < size
    logprobs[scores.top.ids[0][kept]] = scores.top.logprobs[0][kept]
    low, high = sorted((one[at], other[at]))
    if request.sampling.temperature == 0:
        return bool(abs(logprobs[low] - logprobs[high]) <= NEAR)
    probabilities = np.exp(logprobs / request.sampling.temperature)
    cumulative = np.cumsum(probabilities / probabilities.sum())
    drawn = np.random.Generator(np.random.Philox(request.seed)).random(at + 1)[at]
    return bool(np.abs(cumulative[low:high] - drawn).min() <= NEAR)


def across_batches(folder: Path, count: int) -> dict[str, Agreement]:
    """Answer the same requests in batches of other sizes, and run shards of another size."""
    demo = Demo(folder / "batches", demo_rows(count)).prepare()
    params = demo.context.settings.get(EngineParams)
    engines = {
        size: load_engine(replace(params, batch_size=size), str(MODELS / "student"), None, "generate")
        for size in BATCHES
    }
    found = {}
    for temperature in (0.0, 1.0):
        asked = requests_of(demo, engines[64], temperature)
        whole = engines[64].generate(asked)
        for size in BATCHES[:-1]:
            answers = engines[size].generate(asked)
            found[f"batches of {size} at temperature {temperature:g}"] = compare(engines[64], asked, whole, answers)
        answers = [engines[64].generate([request])[0] for request in asked]
        found[f"one request at a time at temperature {temperature:g}"] = compare(engines[64], asked, whole, answers)
    return found


def across_shards(folder: Path, count: int) -> Agreement:
    """Run the student's stage in two shards and in seven."""
    few, many = (
        Demo(folder / f"shards-{number}", demo_rows(count), f"run.num_shards={number}").prepare() for number in (2, 7)
    )
    for demo in (few, many):
        demo.make("generate_rollouts")
    return compare_rollouts(few, many)


def compare_rollouts(one: Demo, other: Demo) -> Agreement:
    """Compare the rollouts of two runs of the same problems."""
    rows = [sorted(demo.rows("rollouts"), key=lambda row: str(row["rollout_id"])) for demo in (one, other)]
    params = one.context.settings.get(RolloutParams)
    sampling = Sampling(max_tokens=params.max_tokens, temperature=params.temperature)
    asked = [
        GenerateRequest(id=name, prompt_ids=row["prompt_ids"], seed=derive_seed(1, name), sampling=sampling)
        for row in rows[0]
        for name in [row["rollout_id"]]
    ]
    engine = load_engine(
        replace(one.context.settings.get(EngineParams), name="transformers"), str(MODELS / "student"), None, "generate"
    )
    return compare(engine, asked, *([_generation(row) for row in several] for several in rows))


def _generation(row: dict[str, Any]) -> Generation:
    logprobs = np.asarray(row["logprobs"], np.float32)
    return Generation(
        id=row["rollout_id"], token_ids=row["token_ids"], logprobs=logprobs, finish_reason=row["finish_reason"]
    )


def across_vllm(folder: Path, count: int) -> dict[str, Agreement]:
    """Answer the same requests on vLLM again, and with others in flight."""
    demo = Demo(folder / "vllm", demo_rows(count), "engine.name=vllm", "engine.max_model_len=192").prepare()
    engine = load_engine(demo.context.settings.get(EngineParams), str(MODELS / "student"), None, "generate")
    found = {}
    for temperature in (0.0, 1.0):
        asked = requests_of(demo, engine, temperature)
        whole = engine.generate(asked)
        for size in (len(asked), *BATCHES[:-1]):
            parts = [asked[start : start + size] for start in range(0, len(asked), size)]
            answers = [answer for part in parts for answer in engine.generate(part)]
            found[f"{size} in flight at temperature {temperature:g}"] = compare(engine, asked, whole, answers)
    engine.close()
    return found


def claims() -> Iterator[bool]:
    """Disturbed runs, batches, and vLLM where it is installed."""
    with tempfile.TemporaryDirectory() as name:
        same = disturbed(Path(name), count=24, seed=8, kills=3)
        found = {**across_batches(Path(name), count=200), "2 and 7 shards": across_shards(Path(name), count=100)}
        on_vllm = across_vllm(Path(name), count=64) if find_spec("vllm") else {}
    sys.stderr.writelines(f"{what}: {figures}\n" for what, figures in [*same.items(), *found.items(), *on_vllm.items()])
    differing = sum(not equal for equal in same.values())
    yield state("runs with other workers, order or kills that give other bytes", differing, 0, "lower", n=len(same))
    count = sum(one.answers for one in found.values())
    ties, apart = sum(one.ties for one in found.values()), sum(one.apart for one in found.values())
    text = f"answers in other batches whose tokens differ, but for {ties} between candidates within {NEAR:g}"
    yield state(text, apart, 0, "lower", n=count)
    largest = max(one.logprob for one in found.values())
    yield state("largest difference of a log-probability across batches", largest, 1e-4, "lower", n=count)
    if on_vllm:
        rates = [one.rate for one in on_vllm.values()]
        text = "answers of vLLM with the same tokens, whatever is in flight (the least share of any size)"
        yield state(
            text,
            min(rates),
            0.9,
            "higher",
            n=sum(one.answers for one in on_vllm.values()),
            spread=(min(rates), max(rates)),
        )
