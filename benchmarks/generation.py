"""Generation and scores under shared prefixes on both engines, and what the stages cost beside the engine they run."""

from __future__ import annotations

import sys

from benchmarks import _generation_transformers, _generation_vllm


def main() -> bool:
    """Print the claims of every engine."""
    return all([_generation_transformers.claims(), _generation_vllm.claims()])


if __name__ == "__main__":
    sys.exit(not main())
