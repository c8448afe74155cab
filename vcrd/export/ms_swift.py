"""ms-swift: a cached data set whose only message is the row's token ids with a `loss_scale` for each.

Read from modelscope/ms-swift, main between 3.12 and 4.4 (nothing of it was run here):

- `swift/loss_scale/base.py`: a content `{"token_ids": [...], "loss_scale": [...]}` is used token by token;
- `swift/template/base.py`: a token with `loss_scale` <= 0 gets the label -100; a row's `add_eos: false` keeps the
  template from closing the message; without a chat template the tokenizer's own leading tokens are put in front; the
  scales are kept only with `--is_binary_loss_scale false`, as the default strategy says that they are 0 or 1;
- `swift/dataset/preprocessor/core.py`: what `--dataset` reads has text for content, so token ids come in by
  `--cached_dataset` (`swift/pipelines/utils.py`: `datasets.load_from_disk`, with a column `length`, later `lengths`);
- `swift/trainers/seq2seq_trainer.py`: index i scales the loss of token i; the sum is divided by the number of labels
  that are not -100.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.errors import ConfigError
from vcrd.export.rows import in_turn, reject_where, without_other_labels, without_weightless
from vcrd.export.target import Target
from vcrd.io.files import fingerprint, fsync_path, sha256_file, write_json
from vcrd.io.rejects import Reject
from vcrd.rows import TokenView

_CONTENT = pa.struct({"token_ids": pa.list_(pa.int32()), "loss_scale": pa.list_(pa.float32())})
_MESSAGE = pa.struct({"role": pa.string(), "content": _CONTENT})
SCHEMA = pa.schema(
    {
        "messages": pa.list_(_MESSAGE),
        "add_eos": pa.bool_(),
        "length": pa.int32(),
        "lengths": pa.list_(pa.int32()),
    }
)


class _SwiftWriter:
    def __init__(self, folder: Path, shards: Sequence[str], tokenizer: Any) -> None:
        self._folder = folder
        self._names = {shard: f"data-{index:05d}-of-{len(shards):05d}.arrow" for index, shard in enumerate(shards)}
        self._lead = leading_tokens(tokenizer)

    def add(self, table: pa.Table, shard: str) -> list[Reject]:
        checks = (without_other_labels, without_weightless, _without_gaps, partial(_without_lead, lead=self._lead))
        table, rejects = in_turn(table, checks)
        with pa.OSFile(str(self._folder / self._names[shard]), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
            stream.write_table(_as_messages(table, len(self._lead)))
        return rejects

    def close(self) -> None:
        files = [self._folder / name for name in self._names.values()]
        for file in files:
            fsync_path(file)
        state: dict[str, Any] = {
            "_data_files": [{"filename": file.name} for file in files],
            # `datasets` keeps what it derives from a data set under this name.
            "_fingerprint": fingerprint([sha256_file(file) for file in files])[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        write_json(self._folder / "dataset_info.json", {})
        write_json(self._folder / "state.json", state)


def leading_tokens(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts in front of any text, which ms-swift puts in front of every row.

    Raises:
        ConfigError: It also puts something behind, which would close every step; or ms-swift cannot tell.
    """
    plain, framed = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    if len(plain) != 1:
        raise ConfigError(f"ms-swift needs a tokenizer for which 'a' is one token, this one makes {len(plain)} of it")
    at = framed.index(plain[0])
    if framed[at + 1 :]:
        raise ConfigError(
            f"the tokenizer ends every text with {framed[at + 1 :]}, and ms-swift would end every step with it; "
            "switch that off in the tokenizer"
        )
    return list(framed[:at])


def _without_gaps(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    view = TokenView(table)
    message = "ms-swift may learn an end token behind the weighted ones; expected them to end the row"
    return reject_where(table, view.not_at_the_end(view.active_T), "not_at_the_end", message)


def _without_lead(table: pa.Table, lead: Sequence[int]) -> tuple[pa.Table, list[Reject]]:
    view = TokenView(table)
    bad_R = view.lengths_R <= len(lead)
    for place, token in enumerate(lead):
        at_T = view.left_T == (view.lengths_R - place)[view.row_T]
        bad_R |= view.any_in_row(at_T & ((view.ids_T != token) | view.active_T))
    message = f"ms-swift puts {list(lead)} in front of every row; expected it there already"
    return reject_where(table, bad_R, "no_leading_tokens", message)


def _as_messages(table: pa.Table, lead: int) -> pa.Table:
    view = TokenView(table)
    lengths_R = view.lengths_R - lead
    kept_T = view.left_T <= lengths_R[view.row_T]
    ends_R = np.concatenate([[0], np.cumsum(lengths_R)]).astype(np.int32)
    each_R = pa.array(np.arange(len(lengths_R) + 1, dtype=np.int32))

    def lists(values_T: Any, kind: pa.DataType) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(ends_R), pa.array(values_T[kept_T], kind))

    content = pa.StructArray.from_arrays(
        [lists(view.ids_T, pa.int32()), lists(np.where(view.active_T, view.weights_T, 0), pa.float32())],
        fields=list(_CONTENT),
    )
    roles = pa.array(["assistant"] * len(lengths_R), pa.string())
    messages = pa.ListArray.from_arrays(each_R, pa.StructArray.from_arrays([roles, content], fields=list(_MESSAGE)))
    whole_R = pa.array(lengths_R + lead, pa.int32())
    columns = [
        messages,
        pa.array([False] * len(lengths_R), pa.bool_()),
        whole_R,
        pa.ListArray.from_arrays(each_R, whole_R),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


MS_SWIFT = Target(
    open=_SwiftWriter,
    lost={"teacher": "its loss is a weighted cross-entropy; a stored teacher's candidates have no place in its data"},
    needs_tokenizer="it puts the tokenizer's leading tokens in front of every row, and they must not be there twice",
)
