"""Uniform next-step distillation with the KL to the teacher's distribution (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

from benchmarks.rivals.base import STEPS, Method
from benchmarks.rivals.uniform import lesson

METHODS = (Method(name="uniform_kl", title="uniform next-step + KL", needs=STEPS, lesson=lesson, kl_coef=0.5),)
