"""Generation under shared prefixes, and what the stages cost beside the engine they run."""

from __future__ import annotations

import sys

from benchmarks import _generation_vllm


def main() -> bool:
    """Print the claims of every engine."""
    return _generation_vllm.claims()


if __name__ == "__main__":
    sys.exit(not main())
