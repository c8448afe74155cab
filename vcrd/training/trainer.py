"""The weighted trainer: TRL's SFTTrainer with a weight on every token and the stored teacher signal beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import IterableDataset
from torch.utils.data import RandomSampler
from trl import SFTTrainer

from vcrd.errors import ConfigError
from vcrd.tokenization import tokenizer_fingerprint
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import as_training_dataset, has_teacher, load_training_dataset, tokenizer_of
from vcrd.training.dealing import EvenSteps, Step, WithBlank
from vcrd.training.head import unwrapped
from vcrd.training.mixin import WeightedLossMixin
from vcrd.training.packed import PackedDataset, PackedStream
from vcrd.training.probe import rows_do_not_see_each_other
from vcrd.trees.support import prepare_for_trees


class WeightedSFTTrainer(WeightedLossMixin, SFTTrainer):  # type: ignore[misc]
    """Reads `training` rows; token ids, weights and teacher signal are taken as they are.

    Args:
        model: As in `SFTTrainer`.
        args: A `WeightedSFTConfig`.
        train_dataset: A `training` folder or its URL in a store, what `load_training_dataset` returns, or any
            `datasets.Dataset` or `IterableDataset` with its per-token columns.
        eval_dataset: Likewise, or several by name; it is never packed, nor merged to trees.
        kwargs: Of `SFTTrainer`: processing_class, peft_config, callbacks, ...

    Raises:
        ConfigError: What is asked for cannot be right; says why.
    """

    def __init__(
        self, model: Any, args: WeightedSFTConfig, train_dataset: Any, eval_dataset: Any = None, **kwargs: Any
    ) -> None:
        if not isinstance(args, WeightedSFTConfig):
            raise ConfigError(f"args must be a WeightedSFTConfig, got {type(args).__name__}")
        train, evaluated = _read(train_dataset), _read(eval_dataset)
        super().__init__(model, args, train_dataset=train, eval_dataset=evaluated, **kwargs)
        for dataset in (train, *(evaluated.values() if isinstance(evaluated, dict) else [evaluated])):
            self._refuse(dataset)
        if kwargs.get("data_collator") is None:
            self.data_collator = DataCollatorForWeightedLanguageModeling(
                self._tokenizer.pad_token_id,
                with_teacher=args.kl_coef > 0,
                padding_free=self.padding_free,
                vocab_size=args.vocab_size,
                trees=args.tree_packing,
            )
        if self.padding_free:
            refuse_mixed_rows(self.model)
        if args.tree_packing and (reason := prepare_for_trees(unwrapped(self.model))) is not None:
            raise ConfigError(f"{type(self.model).__name__} cannot be trained on prefix trees: {reason}")
        # SFTTrainer takes data sets alone; the bins of one are none.
        if args.packing or args.tree_packing:
            assert args.max_length is not None, "WeightedSFTConfig refuses packing without it"  # noqa: S101 - for the type checker
            packed: Any = PackedStream if isinstance(train, IterableDataset) else PackedDataset
            self.train_dataset = packed(train, args.max_length, trees=args.tree_packing)
        if (args.world_size > 1 or args.items_per_step) and hasattr(self.train_dataset, "__len__"):
            self.train_dataset = WithBlank(self.train_dataset)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Deal each step's items to the ranks as they come in one process; blanks fill what is uneven."""
        order = super()._get_train_sampler(train_dataset)
        if not isinstance(self.train_dataset, WithBlank) or type(order) is not RandomSampler:
            return order
        # What accelerate puts in the place of a RandomSampler, and finds none here.
        order = SeedableRandomSampler(order.data_source, data_seed=self.args.data_seed)
        return EvenSteps(order, len(self.train_dataset), self._step)

    @property
    def _step(self) -> Step:
        args = self.args
        at_once = args.train_batch_size * args.world_size
        room = at_once * args.gradient_accumulation_steps
        if (items := args.items_per_step or room) > room:
            raise ConfigError(f"items_per_step is {items}, and the micro-batches of a step hold {room} over all ranks")
        return Step(items, room, at_once)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Take the same kinds of data set as the constructor; a string is the name of one of its eval_dataset."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = _read(eval_dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Collate rows: predictions are rows, and the logits of a tree are none."""
        with self._collating_rows():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Collate rows, likewise."""
        with self._collating_rows():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _collating_rows(self) -> Iterator[None]:
        own = self.data_collator
        if isinstance(own, DataCollatorForWeightedLanguageModeling):
            self.data_collator = replace(own, trees=False)
        try:
            yield
        finally:
            self.data_collator = own

    def _refuse(self, dataset: Any) -> None:
        if dataset is None:
            return
        expected = tokenizer_of(dataset)
        if expected is not None and expected != tokenizer_fingerprint(self._tokenizer):
            raise ConfigError(
                "tokenizer mismatch: the data set's ids are of another tokenizer than processing_class; they would be "
                "read as different text. Take the run's student or one of its family"
            )
        if self.args.kl_coef > 0 and not has_teacher(dataset.column_names):
            raise ConfigError(
                f"kl_coef is {self.args.kl_coef} and the data set has no teacher columns; set kl_coef to 0, or export "
                "them too"
            )


def refuse_mixed_rows(model: Any) -> None:
    """Refuse a model in which rows that lie behind one another see each other.

    Raises:
        ConfigError: It is one.
    """
    base = unwrapped(model)
    ids = torch.arange(8, device=base.device)[None] % base.config.get_text_config().vocab_size
    row = {"input_ids": ids[0].tolist(), "labels": ids[0].tolist(), "token_weights": [0.0] * 8}
    laid = DataCollatorForWeightedLanguageModeling(0, with_teacher=False, padding_free=True)([row, row])
    given = {name: value for name, value in laid.items() if name not in ("labels", "token_weights")}
    given = {name: value.to(base.device) if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    if not rows_do_not_see_each_other(base, given, ids):
        raise ConfigError(
            f"in {type(base).__name__} rows that lie behind one another see each other: switch padding_free and "
            "packing off, or give the model an attn_implementation that keeps them apart"
        )


def _read(given: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, dict):
        return {name: _read(each) for name, each in given.items()}
    if isinstance(given, str | Path):
        return load_training_dataset(given)
    return as_training_dataset(given)
