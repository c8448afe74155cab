"""The fused loss: accuracy against float64; memory and time of forward and backward against whole logits and rivals.

On a CPU each formulation runs in a process of its own, so that its peak resident memory is its own; the formulations
alternate, and a claim is the median of the ratios of a round. The section for a GPU runs where there is one.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from benchmarks._loss_accuracy import CASES, errors
from benchmarks._loss_formulations import OURS, RIVALS, Inputs, inputs, rivals
from benchmarks.claims import claim, state

T, H, V, K, REPEATS = 2048, 896, 151_936, 16, 5
GPU_T, GPU_H, GPU_REPEATS = 8192, 4096, 7
_KIB = 1024
_GIB = 2**30


def measure(kind: str) -> None:
    """Print, of one formulation on 2 threads, seconds, processor seconds, and bytes beyond inputs and head gradient."""
    torch.set_num_threads(2)
    given = inputs(T, H, V, K, device="cpu", dtype=torch.float32)
    before = psutil.Process().memory_info().rss
    if _peak() > before * 1.02:
        raise RuntimeError(f"making the inputs peaked at {_peak()} bytes, above the {before} that they hold")
    started, worked = time.perf_counter(), time.process_time()
    {**OURS, **RIVALS}[kind](given)
    found = {
        "seconds": time.perf_counter() - started,
        "worked": time.process_time() - worked,
        "bytes": _peak() - before - given.head_VH.numel() * 4,
    }
    sys.stdout.write(json.dumps(found))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def run(kind: str) -> dict[str, float]:
    """Measure one formulation in a fresh process."""
    here = Path(__file__).parent.parent
    command = [sys.executable, "-m", "benchmarks.loss", kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=here)
    found: dict[str, float] = json.loads(done.stdout)
    sys.stderr.write(f"{kind}: {done.stdout}\n")
    return found


def accuracy() -> list[bool]:
    """Claim the worst case of each dtype."""
    held = []
    for dtype, bar in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        found = errors(dtype)
        text = (
            f"fused loss, {dtype}: relative error of loss and gradients to dense float64, worst of {len(CASES)} cases"
        )
        held.append(state(text, max(found), bar, "lower", n=len(found), spread=(min(found), max(found))))
    return held


def on_cpu() -> list[bool]:
    """Claim memory and time against whole logits, the bare products, and the rivals that run."""
    others = rivals("cpu")
    rounds = [{kind: run(kind) for kind in (*OURS, *others)} for _ in range(REPEATS)]
    shape = f"T={T}, H={H}, V={V}, k={K}"

    def against(kind: str, what: str) -> list[float]:
        return [each["fused"][what] / each[kind][what] for each in rounds]

    held = []
    for kind, name in (("materialised", "the materialised one"), ("lean", "the leanest materialised one")):
        memory, took = against(kind, "bytes"), against(kind, "seconds")
        held.append(claim(f"fused loss, {shape}: peak extra memory against {name}", memory, 0.15, "lower"))
        held.append(claim(f"fused loss, {shape}: time against {name}", took, 1.0, "lower"))
    for what, unit in (("seconds", "time"), ("worked", "processor time")):
        text = f"fused loss, {shape}: {unit} against the three bare matrix products"
        held.append(claim(text, against("products", what), 1.3, "lower"))
    for kind in others:
        text = f"fused loss with KL, {shape}: time against {kind}'s NLL alone"
        held.append(claim(text, against(kind, "seconds"), 1.0, "lower"))
    return held


def on_gpu() -> list[bool]:
    """Claim time against the bare products, and memory in all, inputs and gradients included, in bfloat16."""
    if not torch.cuda.is_available():
        sys.stderr.write("left out: the section for a GPU, no CUDA device is here\n")
        return []
    given = inputs(GPU_T, GPU_H, V, K, device="cuda", dtype=torch.bfloat16)
    others = rivals("cuda")
    rounds = [{kind: _on_gpu(kind, given) for kind in ("fused", "products", *others)} for _ in range(GPU_REPEATS + 1)]
    rounds = rounds[1:]  # the first compiles and allocates
    shape = f"{torch.cuda.get_device_name()}, bfloat16, T={GPU_T}, H={GPU_H}, V={V}, k={K}"
    bare = [each["fused"][0] / each["products"][0] for each in rounds]
    gib = [each["fused"][1] / _GIB for each in rounds]
    held = [
        claim(f"fused loss, {shape}: time against the three bare matrix products", bare, 1.5, "lower"),
        claim(f"fused loss, {shape}: peak memory in GiB", gib, 6.5, "lower"),
    ]
    for kind in others:
        ratio = statistics.median(each["fused"][0] / each[kind][0] for each in rounds)
        rival_gib = max(each[kind][1] for each in rounds) / _GIB
        sys.stderr.write(f"{shape}: with KL {ratio:.3f} of the time of {kind}'s NLL, which takes {rival_gib:.2f} GiB\n")
    return held


def _on_gpu(kind: str, given: Inputs) -> tuple[float, int]:
    given.hidden_TH.grad = given.head_VH.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    {**OURS, **RIVALS}[kind](given)
    torch.cuda.synchronize()
    return time.perf_counter() - started, torch.cuda.max_memory_allocated()


def main() -> bool:
    """State every claim; return whether all hold."""
    return all([*accuracy(), *on_cpu(), *on_gpu()])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        sys.exit(not main())
