"""The weighted trainer: TRL's SFTTrainer with a weight on every token and the stored teacher signal beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import IterableDataset
from trl import SFTTrainer

from vcrd.errors import ConfigError
from vcrd.tokenization import tokenizer_fingerprint
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import as_training_dataset, has_teacher, load_training_dataset
from vcrd.training.mixin import WeightedLossMixin
from vcrd.training.packed import PackedDataset, PackedStream


class WeightedSFTTrainer(WeightedLossMixin, SFTTrainer):  # type: ignore[misc]
    """Reads `training` rows; token ids, weights and teacher signal are taken as they are.

    Args:
        model: As in `SFTTrainer`.
        args: A `WeightedSFTConfig`.
        train_dataset: A `training` folder, what `load_training_dataset` returns, or any `datasets.Dataset` or
            `IterableDataset` with its per-token columns.
        eval_dataset: Likewise; it is never packed.
        kwargs: Of `SFTTrainer`: processing_class, peft_config, callbacks, ...

    Raises:
        ConfigError: What is asked for cannot be right; says why.
    """

    def __init__(
        self, model: Any, args: WeightedSFTConfig, train_dataset: Any, eval_dataset: Any = None, **kwargs: Any
    ) -> None:
        if not isinstance(args, WeightedSFTConfig):
            raise ConfigError(f"args must be a WeightedSFTConfig, got {type(args).__name__}")
        train, evaluated = _read(train_dataset), None if eval_dataset is None else _read(eval_dataset)
        super().__init__(model, args, train_dataset=train, eval_dataset=evaluated, **kwargs)
        for dataset in (train, evaluated):
            if dataset is not None:
                self._refuse(dataset)
        if kwargs.get("data_collator") is None:
            self.data_collator = DataCollatorForWeightedLanguageModeling(
                self._tokenizer.pad_token_id,
                with_teacher=args.kl_coef > 0,
                padding_free=self.padding_free,
                vocab_size=args.vocab_size,
            )
        # SFTTrainer takes data sets alone; the bins of one are none.
        if args.packing:
            assert args.max_length is not None, "WeightedSFTConfig refuses packing without it"
            packed = PackedStream if isinstance(train, IterableDataset) else PackedDataset
            self.train_dataset = packed(train, args.max_length)

    def _refuse(self, dataset: Any) -> None:
        expected = getattr(dataset, "tokenizer_fingerprint", None)
        if expected is not None and expected != tokenizer_fingerprint(self._tokenizer):
            raise ConfigError(
                "tokenizer mismatch: the data set's ids are of another tokenizer than processing_class; they would be "
                "read as different text. Take the run's student or one of its family"
            )
        if self.args.kl_coef > 0 and dataset.column_names and not has_teacher(dataset.column_names):
            raise ConfigError(
                f"kl_coef is {self.args.kl_coef} and the data set has no teacher columns; set kl_coef to 0, or export "
                "them too"
            )


def _read(given: Any) -> Any:
    if isinstance(given, str | Path):
        return load_training_dataset(given)
    return as_training_dataset(given)
