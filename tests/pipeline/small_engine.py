"""Parameters of an engine for tiny models, apart from these: workers that only need the parameters start faster."""

from __future__ import annotations

from pipeline.engines import EngineParams

PARAMS = EngineParams(
    name="transformers",
    dtype="float32",
    device="cpu",
    threads=1,
    batch_size=4,
    max_in_flight=8,
    max_model_len=None,
    gpu_memory_utilization=0.5,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)
