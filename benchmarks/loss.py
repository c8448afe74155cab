"""The fused loss against the materialised formulation: peak extra memory and time, forward and backward, on CPU.

Each formulation runs in a process of its own, so that its peak resident memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import psutil
import torch

from benchmarks.claims import claim, seconds
from vcrd.fused_loss import fused_weighted_loss
from vcrd.losses import weighted_loss

T, H, V, K, REPEATS = 2048, 896, 151_936, 16, 3
_KIB = 1024


def measure(kind: str) -> None:
    """Print seconds and the peak beyond inputs and the head's gradient, in bytes, of one formulation."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    hidden = torch.randn(T, H).requires_grad_()
    head = torch.randn(V, H).mul_(0.02).requires_grad_()
    labels, weights = torch.randint(0, V, (T,)), torch.rand(T) + 0.5
    ids = torch.stack([torch.randperm(V)[:K] for _ in range(T)])
    top = torch.full((T, K), -4.0)
    tail = torch.log(-torch.expm1(top.logsumexp(-1)))
    before = psutil.Process().memory_info().rss
    signal: dict[str, Any] = {
        "teacher_topk_ids_TK": ids,
        "teacher_topk_logprobs_TK": top,
        "teacher_tail_logprob_T": tail,
        "kl_coef": 0.5,
    }

    def fused() -> None:
        fused_weighted_loss(hidden, head, labels, weights, **signal).backward()  # type: ignore[no-untyped-call]

    def materialised() -> None:
        weighted_loss(hidden @ head.T, labels, weights, **signal).loss.backward()  # type: ignore[no-untyped-call]

    def products() -> None:
        logits = hidden.detach() @ head.detach().T
        _ = logits @ head.detach(), logits.T @ hidden.detach()

    took = seconds({"fused": fused, "materialised": materialised, "products": products}[kind])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB - before - head.numel() * 4
    sys.stdout.write(json.dumps({"seconds": took, "bytes": peak}))


def run(kind: str) -> dict[str, float]:
    """Measure one formulation in a fresh process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.loss", kind], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> bool:
    """Alternate between the formulations."""
    rounds = [{kind: run(kind) for kind in ("fused", "materialised", "products")} for _ in range(REPEATS)]
    memory = [max(each["fused"]["bytes"], 0) / each["materialised"]["bytes"] for each in rounds]
    time = [each["fused"]["seconds"] / each["materialised"]["seconds"] for each in rounds]
    bare = [each["fused"]["seconds"] / each["products"]["seconds"] for each in rounds]
    shape = f"T={T}, H={H}, V={V}, k={K}"
    held = [
        claim(f"fused loss, {shape}: peak extra memory against the materialised one", memory, 0.15, "lower"),
        claim(f"fused loss, {shape}: time against the materialised one", time, 1.0, "lower"),
        claim(f"fused loss, {shape}: time against the three bare matrix products", bare, 1.3, "lower"),
    ]
    return all(held)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        sys.exit(not main())
