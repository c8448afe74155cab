"""Claims of the server engine, before a real `vllm serve` on loopback whose answers a proxy spoils."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks._served import FaultyProxy, vllm_serve
from benchmarks.claims import ROOT, state
from pipeline.engines import load_engine
from pipeline.engines.base import ModelRef
from pipeline.engines.http import Patience
from pipeline.engines.server import ServerEngine
from tests.pipeline.small_engine import PARAMS
from vcrd.domains.demo_math import DOMAIN, generate_problems
from vcrd.requests import GenerateRequest, Generation, Sampling

REQUESTS, SHARE, SEED = 1000, 0.1, 3
MODEL = str(ROOT / "data/models/demo-math/teacher")


def faults() -> bool:
    """Ask for greedy answers through faults; compare with the engine in this process."""
    tokenizer = DOMAIN.build_tokenizer()
    wanted = [
        GenerateRequest(
            id=f"r{index}",
            prompt_ids=tokenizer.encode(prompt + "\n"),
            seed=index,
            sampling=Sampling(max_tokens=80, temperature=0.0),
        )
        for index, (prompt, _) in enumerate(generate_problems(4, REQUESTS, SEED))
    ]
    params = replace(PARAMS, batch_size=64, max_in_flight=32)
    expected = load_engine(params, MODEL, None, "generate").generate(wanted)
    with (
        tempfile.TemporaryDirectory() as place,
        vllm_serve(MODEL, Path(place) / "log") as url,
        FaultyProxy(url, SHARE, SEED, hang=8.0) as proxy,
    ):
        patience = Patience(timeout=6.0, first_wait=0.1, longest_wait=2.0)
        engine = ServerEngine(params, ModelRef(MODEL), "generate", [proxy.url], patience)
        answers = engine.generate(wanted)
        injected = sum(proxy.faults.values())
    rows = {item.id for item in answers if isinstance(item, Generation)}
    differ = sum(
        not isinstance(ours, Generation) or not isinstance(theirs, Generation) or ours.token_ids != theirs.token_ids
        for ours, theirs in zip(answers, expected, strict=True)
    )
    text = f"rows of {REQUESTS:,} requests to a served model through {injected} injected faults, each id once"
    holds = state(text, len(rows) if len(answers) == REQUESTS else 0, REQUESTS, "higher", n=REQUESTS)
    text = "rows whose greedy tokens differ from those of the transformers engine in process"
    return state(text, differ, 0, "lower", n=REQUESTS) and holds
