"""LLaMA-Factory v1: a user's message with the prefix, an assistant's with the step and its `loss_weight`.

Read from hiyouga/LLaMA-Factory, `src/llamafactory/v1` at 01671ec (nothing of it was run here; v0 has no place for a
weight):

- `utils/types.py`: a message has `role`, `content` (a list of `{"type": "text", "value": ...}`) and `loss_weight`;
- `core/rendering/rendering.py`: the tokenizer's own chat template renders the messages to text, that is tokenised as it
  is, and what lies behind the prompt (rendered by itself, a token prefix of the whole) weighs `loss_weight`;
- `core/rendering/escape.py`: strings of special tokens in a message are broken up;
- `trainers/sft_trainer.py`: index i weighs the loss of token i; a micro-batch's sum is divided by its weights.

There are no token ids in this format, so the text must lead back to them. The chat template that is written beside the
data adds nothing to the messages, and puts special tokens back, which stand in them under other names; a row whose ids
the tokenizer does not find again is a reject.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.export.rows import KEY, in_turn, pieces, reject_where, without_other_labels, without_weightless
from vcrd.export.target import Target
from vcrd.io.files import fsync_path
from vcrd.io.rejects import Reject, reject
from vcrd.rows import TokenView

DATA, TEMPLATE = "train.jsonl", "chat_template.jinja"
_PIECE = 1 << 18  # tokens that are Python integers at a time


class _FactoryWriter:
    def __init__(self, folder: Path, shards: Sequence[str], tokenizer: Any) -> None:
        self._folder, self._text = folder, RoundTrip(tokenizer)

    def add(self, table: pa.Table, shard: str) -> list[Reject]:
        table, rejects = in_turn(table, (without_other_labels, without_weightless, _without_several_weights))
        with (self._folder / DATA).open("a", encoding="utf-8") as file:
            for piece in pieces(table, _PIECE):
                columns = (piece.column(name).to_pylist() for name in (KEY, "input_ids", "token_weights"))
                for name, ids, weights in zip(*columns, strict=True):
                    messages = self._messages(ids, weights)
                    if messages is None:
                        rejects.append(reject(name, "no_round_trip", "its text does not lead back to its token ids"))
                    else:
                        file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        return rejects

    def _messages(self, ids: list[int], weights: list[float]) -> list[dict[str, Any]] | None:
        cut = weights.index(weights[-1])
        prefix, step = self._text.write(ids[:cut]), self._text.write(ids[cut:])
        if self._text.read(prefix) != ids[:cut] or self._text.read(prefix + step) != ids:
            return None
        return [_message("user", prefix, 0.0), _message("assistant", step, weights[-1])]

    def close(self) -> None:
        (self._folder / TEMPLATE).write_text(self._text.template(), encoding="utf-8")
        for name in (DATA, TEMPLATE):
            fsync_path(self._folder / name)


class RoundTrip:
    """Token ids as text in which special tokens have other names, and back."""

    def __init__(self, tokenizer: Any) -> None:
        """Name every special token by its id."""
        self._tokenizer = tokenizer
        self._met: set[int] = set()
        self._names = {
            index: (f"<vcrd:{index}>", str(token))
            for index, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }

    def write(self, ids: Sequence[int]) -> str:
        """Return the text of ids; that it leads back to them is not promised."""
        parts = []
        for special, run in groupby(ids, lambda index: index if index in self._names else None):
            tokens = list(run)
            if special is None:
                parts.append(self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
            else:
                parts.append(self._names[special][0] * len(tokens))
                self._met.add(special)
        return "".join(parts)

    def read(self, text: str) -> list[int]:
        """Return the ids that the consumer finds, as its template renders the text; none for a text it would change."""
        if any(string in text for _, string in self._names.values()):
            return []
        for name, string in self._names.values():
            text = text.replace(name, string)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def template(self) -> str:
        """Return a chat template that does what `read` does, for the special tokens that were written."""
        names = "".join(
            f" | replace({json.dumps(name)}, {json.dumps(string, ensure_ascii=False)})"
            for name, string in (self._names[special] for special in sorted(self._met))
        )
        return "{% for message in messages %}{{ message['content']" + names + " }}{% endfor %}"


def _message(role: str, text: str, weight: float) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "value": text}], "loss_weight": weight}


def _without_several_weights(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Keep rows whose last tokens all have one weight, and no others any: that is what a message can carry."""
    view = TokenView(table)
    bad_R = view.not_at_the_end(view.supervised_T) | view.any_in_row(
        view.supervised_T & (view.weights_T != view.last_weights_R[view.row_T])
    )
    message = "a message has one weight; expected a prefix, and behind it tokens that all weigh the same"
    return reject_where(table, bad_R, "several_weights", message)


LLAMA_FACTORY = Target(
    open=_FactoryWriter,
    lost={"teacher": "its messages hold text and a weight; a stored teacher's candidates have no place in them"},
    needs_tokenizer="its data is text, and every row's text must lead back to its token ids",
)
