"""Run all claims, or those of the modules named; exit code 1 where one does not hold."""

from __future__ import annotations

import importlib
import sys

MODULES = (
    "kills",
    "engine_death",
    "crashes",
    "writers",
    "damages",
    "full_disk",
    "stale",
    "same_bytes",
    "poison",
    "old_data",
    "memory",
)

if __name__ == "__main__":
    names = sys.argv[1:] or MODULES
    held = [list(importlib.import_module(f"benchmarks.faults.{name}").claims()) for name in names]
    sys.exit(not all(map(all, held)))
