"""Run all benchmarks; exit code 1 where a claim does not hold."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks

names = [
    info.name
    for info in pkgutil.iter_modules(benchmarks.__path__)
    if info.name != "claims" and not info.name.startswith("_") and not info.ispkg
]
results = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in names]
sys.exit(any(results))
