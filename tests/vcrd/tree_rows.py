"""Rows of rollouts with shared prefixes, for the tests of training on prefix trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.vcrd.training_rows import TOKENIZER, training_row


def rollout_rows(problems: int, seed: int = 0, *, rollouts: int = 2, steps: int = 4) -> list[dict[str, Any]]:
    """Prefix and next step under every prefix of each rollout; the step is the trunk's own or a branch.

    Ids are random, so that the trie of a problem's rows branches anywhere; every third row has no teacher's signal, and
    weights differ and may be 0.
    """
    rng = np.random.default_rng(seed)
    made = []
    for problem in range(problems):
        prompt = _ids(rng, 5)
        for rollout in range(rollouts):
            trunk = list(prompt)
            for step in range(steps):
                own, other = _ids(rng, 4), _ids(rng, 4)
                target = own if rng.random() < 0.5 else other
                name = f"p{problem}/r{rollout}/s{step}"
                made.append(
                    _row(name, trunk, target, float(rng.choice([0.0, 0.5, 1.0, 2.5])), signal=len(made) % 3 > 0)
                )
                trunk += own
    return made


def _ids(rng: np.random.Generator, longest: int) -> list[int]:
    return rng.integers(0, len(TOKENIZER), int(rng.integers(1, longest + 1))).tolist()


def _row(name: str, prefix: list[int], step: list[int], weight: float, *, signal: bool) -> dict[str, Any]:
    blank: list[list[int]] = [[] for _ in prefix]
    kept = step if signal else []
    rest: list[list[int]] = [[] for _ in range(len(step) - len(kept))]
    return training_row(name, "a", "a") | {
        "problem_id": name.split("/")[0],
        "input_ids": prefix + step,
        "labels": [-100] * len(prefix) + step,
        "token_weights": [0.0] * len(prefix) + [weight] * len(step),
        "teacher_topk_ids": blank + [[token, (token + 1) % 29] for token in kept] + rest,
        "teacher_topk_logprobs": blank + [[-0.25 - index / 64, -2.0] for index, _ in enumerate(kept)] + rest,
        "teacher_tail_logprob": [0.0] * len(prefix) + [-3.0 if signal else 0.0] * len(step),
    }
