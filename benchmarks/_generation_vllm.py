"""What vLLM computes twice of shared prefixes, and what the stages around it cost; on CPU, with random weights."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks._generation_run import PROMPT, OneShard, one_shard, random_rollouts
from benchmarks._words import STEP, save_random_qwen
from benchmarks.claims import claim, state
from pipeline.engines import EngineParams, load_engine
from pipeline.stage import ShardedStage
from stages.generate_rollouts import STAGE as GENERATE
from stages.propose_steps import STAGE as PROPOSE

_STEPS, _ROUNDS = 24, 6
_SHARED = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8}
_SHARED |= {"num_attention_heads": 8, "num_key_value_heads": 2}
_LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_LARGE |= {"num_attention_heads": 12, "num_key_value_heads": 2}
_PARAMS = EngineParams(
    name="vllm",
    dtype="float32",
    device="cpu",
    threads=2,
    batch_size=32,
    max_in_flight=64,
    max_model_len=1536,
    gpu_memory_utilization=0.9,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)
_CHANGES = [
    f"rollouts.max_tokens={STEP}",
    f"proposals.max_tokens={STEP}",
    "proposals.top_k_logprobs=16",
]


def claims() -> bool:
    """Print all claims; without vLLM there is nothing to show, which is said."""
    if find_spec("vllm") is None:
        sys.stderr.write("left out: vllm is not installed; run: make setup\n")
        return False
    with tempfile.TemporaryDirectory() as folder:
        held = [_prefix_claims(Path(folder)), _overhead_claims(Path(folder))]
    return all(held)


def _prefix_claims(folder: Path) -> bool:
    save_random_qwen(folder / "shared", **_SHARED)
    with _engine(folder / "shared", log_stats=True) as engine:
        held = [_shared(engine, folder, lengths) for lengths in ((STEP, STEP), (STEP - 16, STEP + 16))]
    return all(held)


def _shared(engine: Any, folder: Path, lengths: tuple[int, int]) -> bool:
    """Compare what vLLM says that it found in its cache with what a cache of single tokens would have held."""
    rollouts = random_rollouts(4, 2, _STEPS, lengths)
    run = one_shard(folder / f"steps-{lengths[0]}", 1, rollouts, _CHANGES)
    prefixes = [tuple(rollout.prefix_ids(step)) for rollout in rollouts for step in range(_STEPS)]
    unique = len({prefix[:end] for prefix in prefixes for end in range(1, len(prefix) + 1)})
    engine._llm.reset_prefix_cache()
    before = _cache_counts(engine)
    run.work(PROPOSE, engine, lambda tokens: None)
    asked, hits = (after - earlier for after, earlier in zip(_cache_counts(engine), before, strict=True))
    block = engine._engine.vllm_config.cache_config.block_size
    excess = (asked - hits - unique) / len(prefixes) / (block / 2 + 1)
    title = (
        f"propose_steps on vllm, prompts of {PROMPT}, {_STEPS} steps of {lengths[0]} to {lengths[1]} tokens, blocks "
        f"of {block}: "
    )
    count = len(prefixes)
    few = state(f"{title}tokens computed twice a prefix, in half-blocks and one", excess, 1.1, "lower", n=count)
    found = hits / (asked - unique)
    return state(f"{title}share of what could be found that was", found, 0.97, "higher", n=count) and few


def _cache_counts(engine: Any) -> list[int]:
    """Return how many tokens vLLM looked for in its prefix cache, and how many it found, since it was started."""
    values = {item.name: item.value for item in engine._llm.get_metrics() if hasattr(item, "value")}
    return [int(values[f"vllm:prefix_cache_{name}"]) for name in ("queries", "hits")]


def _overhead_claims(folder: Path) -> bool:
    save_random_qwen(folder / "large", **_LARGE)
    run = one_shard(folder / "large-run", 16, random_rollouts(2, 1, _STEPS, (STEP, STEP)), _CHANGES)
    with _engine(folder / "large") as engine:
        held = [_overhead(engine, run, stage) for stage in (GENERATE, PROPOSE)]
    return all(held)


def _overhead(engine: Any, run: OneShard, stage: ShardedStage) -> bool:
    """Time a stage, from reading its shard to having written it, beside `LLM.generate` on what it sent to vLLM."""
    with patch.object(engine._engine, "add_request", wraps=engine._engine.add_request) as add_request:
        run.work(stage, engine, lambda tokens: None)
    prompts, params = ([call.args[place] for call in add_request.call_args_list] for place in (1, 2))

    def bare() -> int:
        outputs = engine._llm.generate(prompts, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    def staged() -> int:
        done: list[int] = []
        run.work(stage, engine, done.append)
        return sum(done)

    ratios: list[NDArray[np.float64]] = []
    for number in range(_ROUNDS):
        order = (staged, bare) if number % 2 else (bare, staged)
        rates = {work: _rates(engine, work) for work in order}
        sys.stderr.write(
            f"{stage.name}: {rates[staged].round()} tokens/s and a CPU second, bare {rates[bare].round()}\n"
        )
        ratios.append(rates[staged] / rates[bare])
    clocks = {"tokens/s": 0, "tokens a CPU second, which busy neighbours leave alone": 1}
    title = f"{stage.name} on vllm, its shard read and written, over LLM.generate on the same {len(prompts)} requests"
    held = [
        claim(f"{title}: {unit}", [float(pair[at]) for pair in ratios], 0.95, "higher") for unit, at in clocks.items()
    ]
    return all(held)


def _rates(engine: Any, work: Callable[[], int]) -> NDArray[np.float64]:
    """Return tokens/s and tokens a CPU second, from an empty prefix cache."""
    engine._llm.reset_prefix_cache()
    started = np.array([time.perf_counter(), time.process_time()])
    tokens = work()
    rates: NDArray[np.float64] = tokens / (np.array([time.perf_counter(), time.process_time()]) - started)
    return rates


@contextmanager
def _engine(path: Path, *, log_stats: bool = False) -> Iterator[Any]:
    """Start an engine, with vLLM's own metrics where they are wanted: the engine itself does without."""
    import vllm

    start = vllm.LLM

    def with_stats(**options: Any) -> Any:
        return start(**{**options, "disable_log_stats": not log_stats})

    with patch.object(vllm, "LLM", with_stats):
        engine = load_engine(_PARAMS, str(path), None, "generate")
    try:
        yield engine
    finally:
        engine.close()
