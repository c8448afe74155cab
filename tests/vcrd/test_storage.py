"""The compact teacher signal: lossless ids, bounded log-probabilities, every reader, every way it can be broken."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vcrd.signals import PARAMS, SAMPLE, Token, distribution, rows_of, table_of
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import read_table, write_table
from vcrd.records import COMPACT_TRAINING_SCHEMA, TOKENIZER_KEY, TRAINING, Model
from vcrd.storage import SignalParams, decode_teacher_signal, encode_teacher_signal, logprob_error_bound, store_signal
from vcrd.storage.bits import low_width, set_from_bits, set_to_bits, set_width
from vcrd.storage.codec import Layout
from vcrd.storage.scale import LOWEST, from_codes, levels, to_codes
from vcrd.weights import WeightParams


@st.composite
def signals(draw: st.DrawFn) -> tuple[int, list[list[Token]]]:
    vocabulary = draw(st.one_of(st.integers(1, 70), st.integers(2, 2**18)))
    counts = st.one_of(st.just(0), st.just(min(vocabulary, 64)), st.integers(0, min(vocabulary, 64)))
    kinds = st.sampled_from(["usual", "certain", "far below"])
    shape = draw(st.lists(st.lists(st.tuples(counts, kinds), max_size=5), max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return vocabulary, [[distribution(rng, vocabulary, k, kind) for k, kind in row] for row in shape]


@given(signals(), st.integers(4, 16))
def test_ids_come_back_exactly_and_log_probabilities_within_the_bound(made, bits: int) -> None:
    vocabulary, rows = made
    table = table_of(rows)
    compact = encode_teacher_signal(table, SignalParams(vocabulary_size=vocabulary, logprob_bits=bits))
    assert compact.column_names == ["example_id", "teacher_k", "teacher_signal", "step_index"]
    back = decode_teacher_signal(compact)
    assert back.schema.equals(table.schema)
    assert back.select(["example_id", "step_index"]).equals(table.select(["example_id", "step_index"]))
    for row, found_row in zip(rows, rows_of(back), strict=True):
        assert len(row) == len(found_row)
        for (ids, logprobs, tail), (found_ids, found, found_tail) in zip(row, found_row, strict=True):
            assert sorted(found_ids) == sorted(ids)
            assert found == sorted(found, reverse=True)
            exact = dict(zip(ids, logprobs, strict=True))
            assert_within([exact[item] for item in found_ids], found, bits)
            assert_within([tail], [found_tail], 16)


def assert_within(exact: list[float], found: list[float], bits: int) -> None:
    for wanted, got in zip(exact, found, strict=True):
        if wanted == -np.inf:
            assert got == -np.inf
        elif wanted < LOWEST:
            assert got == LOWEST
        else:
            assert abs(got - wanted) <= logprob_error_bound(wanted, bits)


@given(signals())
def test_what_was_decoded_is_encoded_to_the_same_bytes(made) -> None:
    vocabulary, rows = made
    params = SignalParams(vocabulary_size=vocabulary)
    once = encode_teacher_signal(table_of(rows), params)
    decoded = decode_teacher_signal(once)
    twice = encode_teacher_signal(decoded, params)
    assert twice.equals(once)
    assert decode_teacher_signal(twice).equals(decoded)


@pytest.mark.parametrize("bits", [4, 11, 12, 16])
def test_every_code_is_the_nearest_and_the_bound_is_close_to_what_happens(bits: int) -> None:
    assert from_codes(to_codes(levels(bits), bits), bits).tolist() == levels(bits).tolist()
    assert (np.diff(levels(bits)) < 0).all()
    assert levels(bits)[[0, -2, -1]].tolist() == [0.0, LOWEST, -np.inf]
    exact = -np.linspace(0, 32, 400_001, dtype=np.float32)
    error = abs(from_codes(to_codes(exact, bits), bits).astype(float) - exact)
    bound = logprob_error_bound(exact, bits)
    assert (error <= bound).all()
    assert error[exact < -8].max() > 0.9 * bound.max()
    assert to_codes(np.array([1e-7, 0.0, -0.0], np.float32), bits).tolist() == [0, 0, 0]


@given(st.integers(1, 64), st.integers(0, 2**18), st.integers(0, 2**32))
def test_sets_of_ids_take_little_more_than_they_must(k: int, more: int, seed: int) -> None:
    vocabulary = k + more
    rng = np.random.default_rng(seed)
    ids = np.sort(np.stack([rng.choice(vocabulary, k, replace=False) for _ in range(3)]), axis=1).astype(np.int32)
    bits = set_to_bits(ids, vocabulary)
    found, sound = set_from_bits(bits, k, vocabulary)
    assert found.tolist() == ids.tolist()
    assert sound.all()
    assert (
        bits.shape[1] == set_width(k, vocabulary, low_width(k, vocabulary)) <= 2 * k + k * np.log2(vocabulary / k) + 1
    )


def test_a_token_of_16_candidates_takes_57_bytes_and_one_without_none() -> None:
    assert Layout(16, 151_936, 12).size == 57
    assert Layout(0, 151_936, 12).size == 0
    table = table_of([[([], [], 0.0)] * 9, []])
    compact = encode_teacher_signal(table, SignalParams(vocabulary_size=151_936))
    assert [len(blob) for blob in compact["teacher_signal"].to_pylist()] == [6, 6]
    assert decode_teacher_signal(compact).equals(table)


def test_the_layout_is_the_documented_one() -> None:
    """Read by the words of docs/data-format.md, bit by bit, without a line of the package."""
    table = table_of([[([7, 900, 3], [-0.25, -5.0, -30.0], -1.75), ([], [], 0.0), ([0], [0.0], -np.inf)]])
    blob = encode_teacher_signal(table, SignalParams(vocabulary_size=1000, logprob_bits=9))["teacher_signal"][0].as_py()
    assert blob[:6] == bytes([1, 9, 232, 3, 0, 0])
    assert len(blob) == 6 + 10 + 5
    first, second = int.from_bytes(blob[6:16], "little"), int.from_bytes(blob[16:], "little")

    low, unary = 8, 3 + 3
    ones = [place for place in range(unary) if first >> (3 * low + place) & 1]
    ids = [(place - index) << low | first >> (low * index) & 255 for index, place in enumerate(ones)]
    assert ids == [3, 7, 900]
    codes = [first >> (3 * low + unary + 9 * index) & 511 for index in range(3)]
    assert [documented_level(code, 9) for code in codes] == pytest.approx([-30.0, -0.25, -5.0], abs=0.08)
    assert documented_level(first >> (3 * low + unary + 27) & 65535, 16) == pytest.approx(-1.75, abs=1e-4)
    assert first >> (3 * low + unary + 27 + 16) == 0

    low, unary = 9, 1 + 1
    assert second & 511 == 0
    assert second >> low & 3 == 1
    assert second >> (low + unary) & 511 == 0
    assert second >> (low + unary + 9) == 65535


def documented_level(code: int, bits: int) -> float:
    r = 256 ** (-2 / 3)
    length = 1 - r + 2 / 3 * r * (32 - np.log(256))
    u = code * length / (2**bits - 2)
    return float(1.5 * np.log(1 - u) if u <= 1 - r else -np.log(256) - 1.5 * (u - (1 - r)) / r)


def test_rows_may_be_sliced_chunked_and_of_several_vocabularies() -> None:
    compact = encode_teacher_signal(table_of(SAMPLE), PARAMS)
    whole = decode_teacher_signal(compact)
    assert decode_teacher_signal(compact.slice(2, 5)).equals(whole.slice(2, 5))
    assert encode_teacher_signal(table_of(SAMPLE).slice(2, 5), PARAMS).equals(compact.slice(2, 5))
    other = encode_teacher_signal(table_of([[([1, 0], [-0.5, -1.5], -2.0)]]), SignalParams(vocabulary_size=2))
    mixed = decode_teacher_signal(pa.concat_tables([compact, other, compact]))
    assert mixed.num_rows == 19
    assert rows_of(mixed)[:9] == rows_of(mixed)[10:] == rows_of(whole)
    assert rows_of(mixed)[9][0][0] == [1, 0]


def test_many_rows_go_through_in_batches_with_their_own_numbers() -> None:
    one = table_of([[([5, 2], [-1.0, -2.0], -0.7)]])
    many = pa.concat_tables([one] * 5000).combine_chunks()
    compact = encode_teacher_signal(many, SignalParams(vocabulary_size=10))
    assert decode_teacher_signal(compact).num_rows == 5000
    wrong = pa.concat_tables([many, table_of([[([10], [-1.0], -0.7)]])]).combine_chunks()
    with pytest.raises(SchemaError, match="row 5000: expected distinct ids"):
        encode_teacher_signal(wrong, SignalParams(vocabulary_size=10))


def test_it_survives_parquet_and_the_readers_people_use(tmp_path: Path) -> None:
    from datasets import load_dataset

    compact = encode_teacher_signal(table_of(SAMPLE), PARAMS)
    expected = rows_of(decode_teacher_signal(compact))
    write_table(tmp_path / "part-00000.parquet", compact)
    hub = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    frame = pl.read_parquet(tmp_path / "*.parquet")
    readers = {
        "vcrd": read_table(tmp_path / "part-00000.parquet"),
        "datasets": hub.with_format("arrow")[:],
        "datasets, some rows": hub.select([*range(8, -1, -1)]).select([*range(8, -1, -1)]).with_format("arrow")[:],
        "polars": frame.to_arrow(),
        "polars, newest types": frame.to_arrow(compat_level=pl.CompatLevel.newest()),
        "python": pa.Table.from_pylist(hub.to_list()),
    }
    for name, table in readers.items():
        assert rows_of(decode_teacher_signal(table)) == expected, name


def test_plain_columns_from_polars_are_encoded_too() -> None:
    frame = pl.from_arrow(table_of(SAMPLE))
    assert isinstance(frame, pl.DataFrame)
    assert rows_of(decode_teacher_signal(encode_teacher_signal(frame.to_arrow(), PARAMS))) == rows_of(
        decode_teacher_signal(encode_teacher_signal(table_of(SAMPLE), PARAMS))
    )


@given(signals(), st.floats(0.01, 1.0))
@settings(max_examples=60)
def test_keeping_a_mass_keeps_the_fewest_likeliest_and_moves_the_rest_into_the_tail(made, mass: float) -> None:
    vocabulary, rows = made
    params = SignalParams(vocabulary_size=vocabulary, keep_mass=mass, logprob_bits=16)
    back = rows_of(decode_teacher_signal(encode_teacher_signal(table_of(rows), params)))
    for row, found_row in zip(rows, back, strict=True):
        for (ids, logprobs, tail), (found_ids, _, found_tail) in zip(row, found_row, strict=True):
            exact = dict(zip(ids, np.exp(np.array(logprobs, float)), strict=True))
            kept = sum(exact[item] for item in found_ids)
            dropped = sorted(set(ids) - set(found_ids))
            assert len(found_ids) >= min(len(ids), 1)
            assert not dropped or kept >= mass * (1 - 1e-12)
            assert not found_ids or kept - min(exact[item] for item in found_ids) < mass
            assert max((exact[item] for item in dropped), default=0.0) <= min(
                (exact[item] for item in found_ids), default=1.0
            )
            rest = np.exp(float(np.float32(tail))) + sum(exact[item] for item in dropped)
            assert np.exp(found_tail) == pytest.approx(rest, rel=1e-3, abs=2e-14)


def test_padding_of_the_head_moves_into_the_tail_where_that_is_asked_for() -> None:
    table = table_of([[([3, 12, 1], [-1.0, -0.7, -3.0], -2.5), ([11], [-0.1], -2.35)]])
    with pytest.raises(SchemaError, match=r"column teacher_topk_ids, row 0: expected distinct ids in \[0, 10\)"):
        encode_teacher_signal(table, SignalParams(vocabulary_size=10))
    for keep_mass in (None, 1.0):
        params = SignalParams(vocabulary_size=10, drop_padding=True, keep_mass=keep_mass, logprob_bits=16)
        (first, second) = rows_of(decode_teacher_signal(encode_teacher_signal(table, params)))[0]
        assert first[0] == [3, 1]
        assert first[2] == pytest.approx(np.logaddexp(-0.7, -2.5), abs=1e-4)
        assert second == ([], [], 0.0)


def weights(**values: Any) -> WeightParams:
    given_: dict[str, Any] = {"teacher_signal": "compact", "keep_mass": None, **values}
    return WeightParams(w_max=4.0, broken_prefixes="keep", max_length=99, **given_)


def test_a_run_stores_the_form_that_its_parameters_ask_for() -> None:
    table = table_of(SAMPLE)
    fingerprints = dict.fromkeys(("weights_fingerprint", "tokenizer_fingerprint", "chat_template_fingerprint"), "abc")
    teacher = Model(role="teacher", name="t", revision=None, vocabulary_size=151_936, **fingerprints)
    plain = store_signal(table, teacher, weights(teacher_signal="plain"))
    assert plain.equals(table)
    assert plain.schema.metadata == {TOKENIZER_KEY: b"abc"}
    assert store_signal(table, teacher, weights()).equals(encode_teacher_signal(table, PARAMS))
    few, all_of_them = (store_signal(table, teacher, weights(keep_mass=mass))["teacher_k"] for mass in (0.5, None))
    assert sum(map(sum, few.to_pylist())) < sum(map(sum, all_of_them.to_pylist()))
    with pytest.raises(ConfigError, match="keep_mass needs"):
        weights(teacher_signal="plain", keep_mass=0.5)


def test_the_schema_of_compact_rows_is_the_plain_one_but_for_the_signal() -> None:
    empty = TRAINING.schema.empty_table()
    compact = encode_teacher_signal(empty, PARAMS)
    assert compact.schema.equals(COMPACT_TRAINING_SCHEMA)
    assert decode_teacher_signal(compact).equals(empty)
    assert decode_teacher_signal(empty) is empty


def test_a_file_spends_little_beside_the_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[distribution(rng, 151_936, 16, "usual") for _ in range(40)] for _ in range(50)]
    write_table(tmp_path / "x.parquet", encode_teacher_signal(table_of(rows), PARAMS))
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    spent = sum(item.total_compressed_size for item in columns if item.path_in_schema.startswith("teacher_"))
    assert 57 < spent / 2000 < 60
