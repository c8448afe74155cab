"""A step's items dealt to ranks so that each step teaches what it does in one process: blanks fill what is uneven.

Left to itself, accelerate repeats rows where a batch is not full, and these would be learned twice. A blank is an item
of which nothing is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import pyarrow as pa
from torch.utils.data import Dataset, Sampler

from vcrd.losses import IGNORED


@dataclass(frozen=True, slots=True)
class Step:
    """How an optimiser step is dealt.

    Attributes:
        items: Rows or bins that it teaches, over all ranks.
        room: Items that all its micro-batches hold, at least as many.
        at_once: Items that the ranks take together, a micro-batch each.
    """

    items: int
    room: int
    at_once: int


class EvenSteps(Sampler[int]):
    """The order of one process, with the number of a blank wherever a step does not fill the ranks' micro-batches."""

    def __init__(self, order: Sampler[int], size: int, step: Step) -> None:
        """Take the `order` of `size` items; `size` is also the number of the blank."""
        self._order, self._size, self._step = order, size, step

    def __len__(self) -> int:
        """Count blanks too."""
        steps, rest = divmod(self._size, self._step.items)
        return steps * self._step.room + self._filled(rest)

    def __iter__(self) -> Iterator[int]:
        """Yield step after step; the last one may be shorter."""
        order, whole = iter(self._order), self._step.items
        while items := list(islice(order, whole)):
            yield from items
            room = self._step.room if len(items) == whole else self._filled(len(items))
            yield from repeat(self._size, room - len(items))

    def set_epoch(self, epoch: int) -> None:
        """Let the order change with it."""
        self._order.set_epoch(epoch)  # type: ignore[attr-defined]

    def _filled(self, items: int) -> int:
        return -(-items // self._step.at_once) * self._step.at_once


class WithBlank(Dataset[pa.Table]):
    """A data set whose item behind the last is a blank."""

    def __init__(self, items: Any) -> None:
        """Take a map-style data set of Arrow tables."""
        self._items = items

    def __len__(self) -> int:
        """Return the number of items that are no blank."""
        return len(self._items)

    def __getitem__(self, index: int) -> pa.Table:
        """Return an item, or the blank."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[pa.Table]:
        """Return some, read together where the data set can."""
        wanted = [index for index in indices if index < len(self)]
        together = getattr(self._items, "__getitems__", lambda some: [self._items[index] for index in some])
        found = iter(together(wanted) if wanted else [])
        return [next(found) if index < len(self) else self._blank() for index in indices]

    def _blank(self) -> pa.Table:
        row = self._items[0].slice(0, 1)
        length = len(row["input_ids"][0])
        for name, value in (("labels", IGNORED), ("token_weights", 0)):
            at, field = row.schema.get_field_index(name), row.schema.field(name)
            row = row.set_column(at, field, pa.array([[value] * length], field.type))
        return row
