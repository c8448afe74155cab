"""What the compact teacher signal refuses, and the place that it names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.vcrd.signals import PARAMS, SAMPLE, Token, table_of
from vcrd.errors import ConfigError, SchemaError
from vcrd.storage import SignalParams, decode_teacher_signal, encode_teacher_signal


def changed(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


def flipped(blob: bytes, bit: int) -> bytes:
    return (int.from_bytes(blob, "little") ^ (1 << bit)).to_bytes(len(blob), "little")


COMPACT = encode_teacher_signal(table_of(SAMPLE), PARAMS)
BLOBS = COMPACT["teacher_signal"].to_pylist()
COUNTS = COMPACT["teacher_k"].to_pylist()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("teacher_signal", BLOBS[3][:-1], "size that teacher_k asks for"),
        ("teacher_signal", BLOBS[3] + b"\0", "size that teacher_k asks for"),
        ("teacher_signal", b"", "shorter than a header"),
        ("teacher_signal", b"\x02" + BLOBS[3][1:], "another version than 1"),
        ("teacher_signal", BLOBS[3][:1] + b"\x63" + BLOBS[3][2:], "header that cannot be"),
        ("teacher_signal", BLOBS[3][:2] + bytes(4) + BLOBS[3][6:], "header that cannot be"),
        ("teacher_signal", BLOBS[3][:2] + bytes([2, 0, 0, 0]) + BLOBS[3][6:], "no more candidates"),
        ("teacher_signal", flipped(BLOBS[3], 8 * (6 + 57) - 1), "is broken"),
        ("teacher_signal", flipped(BLOBS[3], 48 + 16 * 13 + 3), "is broken"),
        ("teacher_signal", None, "a value is missing"),
        ("teacher_k", [0, 0, 16, 17, 3], "size that teacher_k asks for"),
        ("teacher_k", COUNTS[3][:-1], "size that teacher_k asks for"),
        ("teacher_k", [0, 0, None, 16, 3], "inside a list is missing"),
    ],
)
def test_a_broken_blob_is_refused_with_its_column_and_row(name: str, value: Any, words: str) -> None:
    values = COMPACT[name].to_pylist()
    broken = changed(COMPACT, name, [*values[:3], value, *values[4:]])
    with pytest.raises(SchemaError, match=rf"column teacher_(signal|k), row 3: .*{words}"):
        decode_teacher_signal(broken)


def test_an_id_beyond_the_vocabulary_in_a_blob_is_refused() -> None:
    table = encode_teacher_signal(table_of([[([9], [-0.5], -1.0)]]), SignalParams(vocabulary_size=10))
    blob = table["teacher_signal"][0].as_py()
    with pytest.raises(SchemaError, match="column teacher_signal, row 0: is broken"):
        decode_teacher_signal(changed(table, "teacher_signal", [blob[:2] + bytes([9, 0, 0, 0]) + blob[6:]]))


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (([1, 1], [-1.0, -1.0], -2.0), "teacher_topk_ids, row 1: expected distinct ids"),
        (([-1], [-1.0], -2.0), "teacher_topk_ids, row 1: expected distinct ids"),
        (([1], [0.5], -2.0), "teacher_topk_logprobs, row 1: expected log-probabilities"),
        (([1], [np.nan], -2.0), "teacher_topk_logprobs, row 1: expected log-probabilities"),
        (([1], [-1.0], np.nan), "teacher_tail_logprob, row 1: expected a log-probability"),
        (([1, 2], [-1.0], -2.0), "teacher_topk_logprobs, row 1: expected as many candidates"),
        (([], [], -2.0), "teacher_tail_logprob, row 1: expected 0.0"),
        (([1, None], [-1.0, -2.0], -2.0), "teacher_topk_ids, row 1: a value inside a list is missing"),
    ],
)
def test_plain_columns_that_make_no_sense_are_refused_with_their_row(token: Token, words: str) -> None:
    rows = [[([1], [-1.0], -0.5)], [([2], [-1.0], -0.5), token]]
    with pytest.raises(SchemaError, match=words):
        encode_teacher_signal(table_of(rows), SignalParams(vocabulary_size=10))


def test_tables_without_a_signal_or_with_both_are_refused() -> None:
    with pytest.raises(SchemaError, match="column teacher_k: expected columns teacher_k, teacher_signal"):
        decode_teacher_signal(pa.table({"input_ids": [[1]]}))
    with pytest.raises(SchemaError, match="column teacher_topk_ids: expected"):
        encode_teacher_signal(COMPACT, PARAMS)
    both = COMPACT.append_column("teacher_topk_ids", table_of(SAMPLE)["teacher_topk_ids"])
    with pytest.raises(SchemaError, match="in one form"):
        decode_teacher_signal(both)
    ragged = changed(table_of(SAMPLE), "teacher_tail_logprob", [[0.0]] * 9)
    with pytest.raises(SchemaError, match="teacher_tail_logprob, row 0: expected a value for each token"):
        encode_teacher_signal(ragged, PARAMS)


@pytest.mark.parametrize(
    "values", [{"vocabulary_size": 0}, {"keep_mass": 0.0}, {"keep_mass": 1.1}, {"logprob_bits": 17}]
)
def test_parameters_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        SignalParams(**{"vocabulary_size": 9, **values})
