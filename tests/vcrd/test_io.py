"""Files are whole or not there; a flipped bit is found; what does not fit is named."""

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.errors import BusyError, ConfigError, SchemaError
from vcrd.io.files import atomic_write, fingerprint, remove_temporaries
from vcrd.io.lock import locked
from vcrd.io.manifest import FileEntry, Manifest, check_files, read_manifest, write_manifest
from vcrd.io.parquet import read_batches, read_rows, read_table, table_from_rows, table_writer, write_table
from vcrd.io.rejects import count_reasons, reject
from vcrd.records import ARTEFACTS, ROLLOUTS

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("values", pa.list_(pa.int32()))])


@given(st.lists(st.tuples(st.text(max_size=5), st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6))))
def test_written_then_read_is_the_identity(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("io") / "x.parquet"
    given_rows = [{"id": name, "values": values} for name, values in rows]
    write_table(path, table_from_rows(given_rows, SCHEMA, "x"))
    assert read_rows([path], SCHEMA) == given_rows


def test_a_flipped_bit_in_a_pages_data_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rng = random.Random(1)
    rows = [{"id": f"row {index}", "values": [rng.randrange(2**31) for _ in range(400)]} for index in range(300)]
    write_table(path, table_from_rows(rows, SCHEMA, "x"))
    whole = path.read_bytes()
    for _ in range(60):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw) // 4, len(raw) * 3 // 4)] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(raw))
        with pytest.raises(SchemaError, match=r"x\.parquet"):
            read_rows([path], SCHEMA)


@pytest.mark.parametrize("kind", ARTEFACTS, ids=lambda kind: kind.name)
def test_a_records_fields_are_its_schemas(kind) -> None:
    from dataclasses import fields

    assert [item.name for item in fields(kind.record)] == kind.schema.names
    assert kind.key in kind.schema.names


def test_what_does_not_fit_names_its_column_and_row() -> None:
    with pytest.raises(SchemaError, match="column values: expected list"):
        table_from_rows([{"id": "a", "values": ["x"]}], SCHEMA, "x")
    with pytest.raises(SchemaError, match="column id, row 1: a required value is missing"):
        table_from_rows([{"id": "a", "values": []}, {"id": None, "values": []}], SCHEMA, "x")


def test_another_schema_is_told_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "more": [1]}), tmp_path / "x.parquet")
    with pytest.raises(SchemaError, match=r"missing columns \['values'\]; unknown columns \['more'\]"):
        read_table(tmp_path / "x.parquet", SCHEMA)
    with pytest.raises(ConfigError, match="is missing; run the stage that writes it"):
        read_table(tmp_path / "y.parquet")
    (tmp_path / "z.parquet").write_bytes(b"no parquet")
    with pytest.raises(SchemaError, match="cannot be read"):
        read_table(tmp_path / "z.parquet")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-x").write_text("half")
    (tmp_path / ".tmp-2-y").mkdir()
    (tmp_path / "kept").write_text("whole")
    remove_temporaries(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["kept"]


def test_the_second_writer_is_turned_away_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vcrd.io.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match="another process runs this stage"), locked(tmp_path / "lock"):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path / "lock"):
        pass


def test_a_manifest_adds_up_and_proves_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    import hashlib

    entry = FileEntry(
        file="a", sha256=hashlib.sha256(b"1").hexdigest(), fingerprint="f", rows=2, expected=5, rejects={"x": 2, "b": 1}
    )
    other = FileEntry(file="b", sha256="", fingerprint="g", rows=1, expected=2, rejects={"x": 1})
    manifest = Manifest(artefact="t", stage="s", stage_version=1, provenance={}, files=[entry, other])
    assert (manifest.rows, manifest.expected, manifest.rejects) == (3, 7, {"b": 1, "x": 3})
    whole = Manifest(artefact="t", stage="s", stage_version=1, provenance={}, files=[entry])
    write_manifest(tmp_path, whole)
    assert read_manifest(tmp_path) == whole
    check_files(tmp_path, whole)
    (tmp_path / "a").write_text("2")
    with pytest.raises(SchemaError, match="differs from the manifest"):
        check_files(tmp_path, whole)


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_rejects_keep_what_there_was() -> None:
    made = [reject("a", "too_long", "9 tokens", text="x"), reject("b", "too_long"), reject("c", "empty")]
    assert count_reasons(made) == {"empty": 1, "too_long": 2}
    assert made[0].row == '{"text": "x"}'


def test_page_checksums_are_written(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", pa.Table.from_pylist([], schema=ROLLOUTS.schema))
    assert read_table(tmp_path / "x.parquet", ROLLOUTS.schema).num_rows == 0


ROWS = pa.table({"id": [f"row {index}" for index in range(9000)], "values": [[index] * 3 for index in range(9000)]})
WHOLE = ROWS.cast(pa.schema([pa.field("id", pa.string()), SCHEMA.field("values")]))


@pytest.mark.parametrize("size", [700, 4096, 9000])
def test_a_file_written_piece_by_piece_is_the_file_written_whole(tmp_path: Path, size: int) -> None:
    write_table(tmp_path / "whole.parquet", WHOLE)
    with table_writer(tmp_path / "pieces.parquet", WHOLE.schema) as writer:
        for start in range(0, WHOLE.num_rows, size):
            writer.write(WHOLE.slice(start, size))
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    batches = list(read_batches(tmp_path / "pieces.parquet", ["values"], rows=1000))
    assert pa.Table.from_batches(batches).equals(WHOLE.select(["values"]))
    assert max(batch.num_rows for batch in batches) <= 1000


@pytest.mark.parametrize("size", [100, 2000])
def test_a_row_group_of_large_rows_has_fewer_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("vcrd.io.parquet.ROW_GROUP_BYTES", 20_000)
    with table_writer(tmp_path / "x.parquet", WHOLE.schema) as writer:
        for start in range(0, 2000, size):
            writer.write(WHOLE.slice(start, size))
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(rows) == 2000
    assert max(rows) < 1000
    assert read_table(tmp_path / "x.parquet").equals(WHOLE.slice(0, 2000))


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, WHOLE)
    before = path.read_bytes()

    def fail() -> None:
        with table_writer(path, WHOLE.schema) as writer:
            writer.write(WHOLE.slice(0, 10))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x.parquet"]


def test_reading_some_rows_at_a_time_checks_the_schema_and_every_page(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, WHOLE)
    with pytest.raises(SchemaError, match="id is"):
        next(read_batches(path, ["id"], schema=SCHEMA))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(SchemaError, match=r"x\.parquet"):
        list(read_batches(path, WHOLE.column_names))
