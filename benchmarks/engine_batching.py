"""The embedded engine in length-bucketed batches with a KV cache, against `model.generate` one prompt at a time."""

from __future__ import annotations

import sys

import torch
from transformers import AutoModelForCausalLM

from benchmarks.claims import claim, seconds
from pipeline.engines import EngineParams, load_engine
from vcrd.domains.demo_math import generate_problems
from vcrd.requests import GenerateRequest, Sampling

MODEL = "data/models/demo-math/teacher"
PROMPTS, TOKENS, REPEATS = 64, 64, 3
PARAMS = EngineParams(
    name="transformers",
    dtype="float32",
    device="cpu",
    threads=1,
    batch_size=64,
    max_in_flight=64,
    max_model_len=None,
    gpu_memory_utilization=0.9,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)


def main() -> bool:
    """Time both on the same prompts, alternating."""
    engine = load_engine(PARAMS, MODEL, None, "generate")
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    prompts = [engine.tokenizer.encode(prompt + "\n") for prompt, _ in generate_problems(4, PROMPTS, 1)]
    requests = [
        GenerateRequest(
            id=str(index),
            prompt_ids=ids,
            seed=1,
            sampling=Sampling(max_tokens=TOKENS, temperature=0.0, top_k_logprobs=8),
        )
        for index, ids in enumerate(prompts)
    ]

    def one_by_one() -> None:
        for ids in prompts:
            batch = torch.tensor([ids])
            model.generate(batch, attention_mask=torch.ones_like(batch), do_sample=False, max_new_tokens=TOKENS)

    engine.generate(requests[:4])
    ratios = [seconds(one_by_one) / seconds(lambda: engine.generate(requests)) for _ in range(REPEATS)]
    return claim(
        "engine, 64 prompts in a batch with top-8 log-probabilities, against generate one at a time",
        ratios,
        5.0,
        "higher",
    )


if __name__ == "__main__":
    sys.exit(not main())
