"""What a demo domain is made of: problems, an exact oracle, and two models' worth of texts to learn from."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vcrd.evaluation import Oracle
from vcrd.models import PretrainParams

Role = Literal["student", "teacher"]


SHAPE = PretrainParams(
    hidden_size=128,
    layers=2,
    heads=4,
    intermediate_size=512,
    max_position=256,
    steps=1200,
    batch_size=64,
    learning_rate=3e-3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a role writes the texts that its model learns from.

    Attributes:
        blind_spots: What it mostly gets wrong in a way that no rule sees.
        misread_rate: How often, at a blind spot.
        slip_rate: Share of its steps that are wrong in a way that a rule may see.
        in_order: Share of its solutions that do things in the order of the prompt where any order would do; the others
            are in a random one.
    """

    blind_spots: Collection[Any] = ()
    misread_rate: float = 0.7
    slip_rate: float = 0.0
    in_order: float = 0.0

    def misreads(self, spot: Any, rng: random.Random) -> bool:
        """Decide whether something is misread this time."""
        return spot in self.blind_spots and rng.random() < self.misread_rate

    def keeps_order(self, rng: random.Random) -> bool:
        """Decide whether a solution is in the order of the prompt."""
        return self.in_order > 0 and rng.random() < self.in_order


FAULTLESS = Habits()


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDomain:
    """A synthetic domain whose steps may come in several orders.

    Attributes:
        name: Of its source card's generator and of its preset.
        arguments: Integers that the card gives, in the order in which `generate_problems` takes them.
        size: The first of them, in the problems that the models learn from.
        generate_problems: (size, count, seed) -> distinct (prompt, reference) pairs.
        step_is_valid: The exact oracle of local validity, for measuring alone: (prompt, steps before, step) -> sound?
        solve: (prompt, rng, habits) -> a solution with the mistakes and in the order that these make likely.
        habits: Of each role.
        alphabet: Characters of the tokenizer that both roles share.
        shape: Of both models, and how long they are trained.
        texts: How many texts a role learns from.
        seeds: Of the models that ship with the project.
    """

    name: str
    arguments: tuple[str, str, str]
    size: int
    generate_problems: Callable[[int, int, int], list[tuple[str, str]]]
    step_is_valid: Oracle
    solve: Callable[[str, random.Random, Habits], str]
    habits: Mapping[Role, Habits]
    alphabet: str
    shape: PretrainParams = SHAPE
    texts: int = 40_000
    seeds: dict[Role, int] = field(default_factory=lambda: {"student": 1, "teacher": 2})

    def pretraining_texts(self, role: Role, count: int, seed: int) -> list[tuple[str, str]]:
        """Return (prompt, solution) texts with a role's own habits."""
        rng = random.Random(f"{seed}:{role}")
        problems = self.generate_problems(self.size, count, rng.getrandbits(32))
        return [(prompt + "\n", self.solve(prompt, rng, self.habits[role])) for prompt, _ in problems]

    def build_tokenizer(self) -> Any:
        """Return the tokenizer of both models: single characters."""
        return character_tokenizer(self.alphabet)


def character_tokenizer(alphabet: str) -> Any:
    """Return a tokenizer of single characters whose decoding is exact and that adds nothing by itself."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
