"""Rows from wherever problems or texts come from: JSON lines, a Parquet folder, a Hub data set.

A *source card* (a YAML file) names a Hub data set (`hub`, `config`, `split`, `revision`), or a generator and its
arguments (see `vcrd.domains`).
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.errors import ConfigError, SchemaError, one_line
from vcrd.io.parquet import read_batches
from vcrd.io.text import parse_yaml

HUB_KEYS = {"hub", "config", "split", "revision"}
_HUB_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row, or what stands in its place: where it is, its values, or the error that made it unreadable."""

    place: str
    values: Mapping[str, Any] | None
    error: str = ""


def read_source(path: Path) -> tuple[str, Iterator[SourceRow]]:
    """Return the name of a source and its rows: a file, a folder, or the card of a Hub data set.

    Raises:
        ConfigError: There is no such source.
    """
    if not is_card(path):
        return path.name, read_file_rows(path)
    card = read_card(path)
    if "hub" not in card:
        raise ConfigError(f"{path}: expected the card of a Hub data set, got that of {card}")
    return str(card["hub"]), read_hub_rows(card)


def is_card(path: Path) -> bool:
    """Tell whether a path names a source card."""
    return path.suffix in (".yaml", ".yml")


def read_card(path: Path) -> dict[str, Any]:
    """Read a source card.

    Raises:
        ConfigError: There is none, or it is of neither kind.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such source card")
    try:
        card = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(card, dict) or not {"hub", "generator"} & set(card):
        raise ConfigError(f"{path}: expected a source card with the key hub or generator")
    return card


def read_file_rows(path: Path) -> Iterator[SourceRow]:
    """Read a `.jsonl`, `.jsonl.gz` or `.parquet` file, or a folder of Parquet files; blank lines are no rows.

    Raises:
        ConfigError: There is nothing there, or it is of another kind.
    """
    if path.is_dir():
        files = sorted(path.glob("**/*.parquet"))
        if not files:
            raise ConfigError(f"{path}: expected *.parquet files in this folder, found none")
        return (row for file in files for row in _parquet_rows(file))
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or folder; set the path to a .jsonl[.gz] file or a Parquet folder")
    if path.name.endswith(".parquet"):
        return _parquet_rows(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_rows(path)
    raise ConfigError(f"{path}: expected .jsonl, .jsonl.gz, .parquet, a Parquet folder or a .yaml source card")


def _json_rows(path: Path) -> Iterator[SourceRow]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, an integer of thousands of digits
                yield SourceRow(f"line {number}", None, str(error))
                continue
            is_object = isinstance(values, dict)
            yield SourceRow(f"line {number}", values if is_object else None, "" if is_object else "not a JSON object")


def _lines(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise SchemaError(f"cannot be read: {error}", file=path) from error


def _parquet_rows(path: Path) -> Iterator[SourceRow]:
    number = 0
    for batch in read_batches(path, validate=False):
        for values, error in _values_of(batch):
            number += 1
            yield SourceRow(f"{path.name} row {number}", values, error)


def _values_of(batch: pa.RecordBatch) -> Iterator[tuple[Mapping[str, Any] | None, str]]:
    """Yield each row's values, or why it has none: text that is not UTF-8, a date in the year 20000."""
    try:
        yield from ((values, "") for values in batch.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _values_of(batch.slice(index, 1))
        else:
            yield None, str(error)


def read_hub_rows(card: Mapping[str, Any]) -> Iterator[SourceRow]:
    """Stream a Hub data set at a pinned revision; no code of it runs.

    Raises:
        ConfigError: A key is missing, or the data set cannot be reached.
    """
    if missing := HUB_KEYS - set(card):
        raise ConfigError(f"the source card of {card.get('hub')} lacks {sorted(missing)}")
    wrong = [key for key in sorted(HUB_KEYS) if not isinstance(card[key], str) and (key != "config" or card[key])]
    if wrong or not _HUB_NAME.fullmatch(card["hub"]) or Path(card["hub"]).exists():
        raise ConfigError(
            f"the source card of {card['hub']!r} must give {', '.join(wrong) or 'hub'} as text, hub as org/name on the "
            "Hub; for files on this machine set problems.path to them"
        )
    from datasets import load_dataset

    try:
        data = load_dataset(card["hub"], card["config"], split=card["split"], revision=card["revision"], streaming=True)
        for number, values in enumerate(data, start=1):
            yield SourceRow(f"row {number}", values)
    except (OSError, ValueError, RuntimeError) as error:
        text = one_line(error)
        raise ConfigError(f"Hub data set {card['hub']} cannot be read ({text}); give a local file instead") from error
