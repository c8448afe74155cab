"""What a demo domain is made of: problems, an exact oracle, and two models' worth of texts to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from vcrd.evaluation import Oracle
from vcrd.models import PretrainParams

Role = Literal["student", "teacher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDomain:
    """A synthetic domain whose steps may come in several orders.

    Attributes:
        name: Of its source card's generator and of its preset.
        arguments: Integers that the card gives, in the order in which `generate_problems` takes them.
        generate_problems: Makes distinct (prompt, reference) pairs.
        step_is_valid: The exact oracle of local validity, for measuring alone: (prompt, steps before, step) -> sound?
        pretraining_texts: (role, count, seed) -> (prompt, solution) texts with the role's own blind spots, which the
            other role's lack.
        build_tokenizer: Makes the tokenizer that both roles share.
        shape: Of both models, and how long they are trained.
        texts: How many texts a role learns from.
        seeds: Of the models that ship with the project.
    """

    name: str
    arguments: tuple[str, ...]
    generate_problems: Callable[..., list[tuple[str, str]]]
    step_is_valid: Oracle
    pretraining_texts: Callable[[Role, int, int], list[tuple[str, str]]]
    build_tokenizer: Callable[[], Any]
    shape: PretrainParams
    texts: int
    seeds: dict[Role, int]


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
