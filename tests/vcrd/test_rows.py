"""Rows that disagree with themselves: found as a reading value by value finds them, and alike by all who read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vcrd.training_rows import demo_rows
from vcrd.errors import SchemaError
from vcrd.export.rows import KEY, sound_rows
from vcrd.records import TRAINING
from vcrd.rows import TOKEN_COLUMNS, wrong_rows
from vcrd.storage import PLAIN_COLUMNS
from vcrd.training.dataset import check_rows
from vcrd.validate.findings import Findings, Place
from vcrd.validate.tokens import check_rows as report_rows

GOOD = demo_rows(4)
COLUMNS = (*TOKEN_COLUMNS, *PLAIN_COLUMNS)
WRONG_WEIGHTS = (math.nan, math.inf, -1.0)

Row = dict[str, Any]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Good rows, to some of which something was done."""
    made = []
    for index in range(draw(st.integers(1, 5))):
        row = {name: list(value) if isinstance(value, list) else value for name, value in GOOD[index % 4].items()}
        row[KEY] = f"e{index}"
        for _ in range(draw(st.integers(0, 2))):
            _spoil(draw, row)
        made.append(row)
    return made


def _spoil(draw: st.DrawFn, row: Row) -> None:
    column = draw(st.sampled_from(COLUMNS))
    at = draw(st.integers(-3, -1))
    match draw(st.sampled_from(["short", "gone", "empty", "null", "weight", "candidate", "null candidate"])):
        case "short":
            row[column] = (row[column] or [])[1:]
        case "gone":
            row[column] = None
        case "empty":
            row |= {name: [] for name in COLUMNS}
        case "null" if len(row[column] or []) >= 3:
            row[column][at] = None
        case "weight" if len(row["token_weights"] or []) >= 3:
            row["token_weights"][draw(st.sampled_from([0, at]))] = draw(st.sampled_from([*WRONG_WEIGHTS, 0.5]))
        case "candidate" if len(row["teacher_topk_ids"] or []) >= 3:
            row["teacher_topk_ids"][at] = [1, 2, 3]
        case "null candidate" if len(row["teacher_topk_logprobs"] or []) >= 3:
            row["teacher_topk_logprobs"][at] = [None, -1.0]


def reasons(row: Row) -> set[str]:
    """The first group of checks that a row does not pass, value by value."""
    if row["input_ids"] is None or not row["input_ids"]:
        return {"lengths_differ"}
    if any(row[name] is None or len(row[name]) != len(row["input_ids"]) for name in COLUMNS):
        return {"lengths_differ"}
    inner = [value for name in PLAIN_COLUMNS[:2] for values in row[name] for value in (values or [])]
    if any(value is None for name in COLUMNS for value in row[name]) or None in inner:
        return {"missing_value"}
    if any(len(ids) != len(logprobs) for ids, logprobs in zip(*(row[name] for name in PLAIN_COLUMNS[:2]), strict=True)):
        return {"candidates_differ"}
    weights = zip(row["labels"], row["token_weights"], strict=True)
    wrong = any(not 0 <= weight < math.inf or (label == -100 and weight != 0) for label, weight in weights)
    return {"bad_weight"} if wrong else set()


def table_of(made: list[Row]) -> pa.Table:
    fields = [pa.field(name, TRAINING.schema.field(name).type) for name in (KEY, *COLUMNS)]
    return pa.Table.from_pylist(made, pa.schema(fields))


@given(rows())
def test_wrong_rows_are_those_that_a_look_at_every_value_finds(made: list[Row]) -> None:
    found: dict[int, set[str]] = {}
    for wrong in wrong_rows(table_of(made)):
        for row in wrong.rows_W.tolist():
            found.setdefault(row, set()).add(wrong.reason)
    assert found == {index: reasons(row) for index, row in enumerate(made) if reasons(row)}


@given(rows())
def test_a_trainer_an_export_and_validate_agree_on_what_is_wrong(made: list[Row]) -> None:
    table = table_of(made)
    wrong = {index for index, row in enumerate(made) if reasons(row)}
    kept, rejects = sound_rows(table)
    assert {item.record_id: {item.reason} for item in rejects} == {f"e{row}": reasons(made[row]) for row in wrong}
    assert kept.column(KEY).to_pylist() == [row[KEY] for index, row in enumerate(made) if index not in wrong]
    findings = Findings("training", "x")
    whole_R = report_rows(table, Place(findings, "x", 100 + np.arange(table.num_rows)))
    assert {row for row in range(len(made)) if not whole_R[row]} == {
        row for row in wrong if reasons(made[row]) != {"bad_weight"}
    }
    assert bool(findings.faults) == bool(wrong)
    assert {fault.row for fault in findings.faults} <= {100 + row for row in wrong}
    if not wrong:
        check_rows(table, "x")
        return
    with pytest.raises(SchemaError) as caught:
        check_rows(table, "x")
    assert caught.value.row in wrong
    assert caught.value.row in {fault.row - 100 for fault in findings.faults if fault.row is not None}
