"""The invariants of `training`: rows one by one, then the corpus as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.errors import SchemaError
from vcrd.io.manifest import Manifest
from vcrd.io.parquet import read_table, shard_files
from vcrd.records import MODELS, TOKENIZER_KEY
from vcrd.rows import TokenView
from vcrd.storage.blobs import BLOB, read_header
from vcrd.validate.beside import BesideChecks
from vcrd.validate.corpus import CorpusChecks
from vcrd.validate.findings import Findings, Place
from vcrd.validate.signal import check_signal
from vcrd.validate.tokens import check_rows, check_tokens
from vcrd.validate.values import check_values


class TrainingChecks:
    """Takes the shards of a `training` folder in their order; holds some numbers for each row."""

    def __init__(self, folder: Path, manifest: Manifest | None, findings: Findings) -> None:
        self._findings = findings
        self._calibration = manifest.params("calibration") if manifest is not None else {}
        self._beside = BesideChecks(folder, findings)
        w_max = manifest.params("weights").get("w_max") if manifest is not None else None
        self._corpus = CorpusChecks(findings, float(w_max) if isinstance(w_max, int | float) else None)
        self._tokenizer: str | None = None
        self._models = _models_beside(folder)
        sizes = [item["vocabulary_size"] for item in self._models if item["role"] in ("student", "teacher")]
        self._vocabulary = min(sizes) if sizes else None
        for check in ("lengths", "labels", "weights", "teacher signal", "validities", "mean weight"):
            findings.holds(check)

    def start_shard(self, path: Path, schema: pa.Schema) -> None:
        """Look at what a shard says of itself, and at what it was made of."""
        told = (schema.metadata or {}).get(TOKENIZER_KEY)
        name = None if told is None else told.decode(errors="replace")
        self._check_tokenizer(name, path.name)
        self._beside.start_shard(path.name)

    def _check_tokenizer(self, name: str | None, file: str) -> None:
        known = {item["tokenizer_fingerprint"] for item in self._models}
        if name is None:
            self._findings.not_checked("tokenizer", "the shards do not name one")
        elif not known:
            self._findings.not_checked("tokenizer", "no models lie beside the folder")
        elif name not in known:
            self._findings.fault("tokenizer", f"is of the tokenizer {name}, the models have another", file=file)
        else:
            self._findings.holds("tokenizer", "that of the models beside")
        if self._tokenizer not in (None, name):
            self._findings.fault("tokenizer", "is of another tokenizer than the shard before", file=file)
        self._tokenizer = name

    def check(self, table: pa.Table, file: str, first: int) -> None:
        """Check some rows, of which the first has this number in its file."""
        whole_R = check_rows(table, Place(self._findings, file, first + np.arange(table.num_rows)))
        place = Place(self._findings, file, first + np.flatnonzero(whole_R))
        table = table.filter(pa.array(whole_R)).combine_chunks()
        if not table.num_rows:
            return
        view = TokenView(table)
        vocabulary = self._vocabulary or _vocabulary_of(table)
        if vocabulary is None:
            self._findings.not_checked("vocabulary", "neither models beside the folder nor the rows tell its size")
        else:
            self._findings.holds("vocabulary", f"{vocabulary} ids")
        check_tokens(view, place, vocabulary)
        check_values(table, place, self._calibration)
        try:
            check_signal(table, view, place, vocabulary)
        except SchemaError as error:
            row = None if error.row is None else int(place.rows_R[error.row])
            self._findings.fault("teacher signal", error.reason, file=file, column=error.column, row=row)
        self._beside.check(table, view, place)
        self._corpus.add(table, view, place)

    def finish(self) -> None:
        """Check what needs all rows."""
        self._corpus.finish()


def _models_beside(folder: Path) -> list[dict[str, Any]]:
    beside = folder.resolve().parent / MODELS.name
    if not any(beside.glob("*.parquet")):
        return []
    try:
        return [row for path in shard_files(beside) for row in read_table(path, MODELS.schema).to_pylist()]
    except SchemaError:
        return []


def _vocabulary_of(table: pa.Table) -> int | None:
    if BLOB not in table.column_names or not table.num_rows:
        return None
    blob = table.column(BLOB)[0].as_py()
    return read_header(blob)[1] if len(blob) >= 6 else None
