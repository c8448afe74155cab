"""What page checksums and the check after writing cost, against pyarrow's bare writing and reading."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.claims import claim, seconds
from vcrd.io.parquet import read_table, write_table

ROWS, TOKENS, REPEATS = 4000, 400, 5


def main() -> bool:
    """Time both on the same table, alternating."""
    rng = random.Random(1)
    ids = [[rng.randrange(150_000) for _ in range(TOKENS)] for _ in range(ROWS)]
    table = pa.table({"ids": pa.array(ids, pa.list_(pa.int32())), "name": [f"row {index}" for index in range(ROWS)]})
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder) / "ours.parquet", Path(folder) / "bare.parquet"
        writing, reading = [], []
        for _ in range(REPEATS):
            plain = seconds(lambda: pq.write_table(table, bare, compression="zstd"))
            writing.append(seconds(lambda: write_table(ours, table)) / plain)
            plain = seconds(lambda: pq.read_table(bare, use_threads=False))
            reading.append(seconds(lambda: read_table(ours)) / plain)
    held = [
        claim("writing a shard atomically with page checksums, against pyarrow alone", writing, 3.0, "lower"),
        claim("reading a shard with its checksums checked, against pyarrow alone", reading, 3.0, "lower"),
    ]
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
