"""What can happen to a `training` folder, by a seed: to its rows under a manifest made to fit, or to its files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.vcrd.made_run import Row, mend_manifest, rewrite
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.parquet import read_table, shard_files

Change = Callable[[list[Row], random.Random], list[Row]]


def _some(rows: list[Row], rng: random.Random, change: Callable[[Row], None]) -> list[Row]:
    change(rng.choice(rows))
    return rows


def set_last(row: Row, column: str, value: object) -> None:
    row[column][-1] = value


def _one_weight(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: set_last(row, "token_weights", row["token_weights"][-1] + 0.01))


def _all_weights(rows: list[Row], rng: random.Random) -> list[Row]:
    factor = rng.choice([0.9, 0.999, 1.001, 1.5])
    for row in rows:
        row["token_weights"] = [factor * weight for weight in row["token_weights"]]
    return rows


def _moved_weight(rows: list[Row], rng: random.Random) -> list[Row]:
    """The mean of the corpus stays."""
    by_length: dict[int, list[Row]] = {}
    for row in rows:
        by_length.setdefault(sum(label != -100 for label in row["labels"]), []).append(row)
    first, second = rng.sample(max(by_length.values(), key=len), 2)
    for row, change in ((first, 0.05), (second, -0.05)):
        row["token_weights"] = [weight and weight + change for weight in row["token_weights"]]
    return rows


def _bad_weight(rows: list[Row], rng: random.Random) -> list[Row]:
    bad = rng.choice([float("nan"), float("inf"), -1.0])
    return _some(rows, rng, lambda row: set_last(row, "token_weights", bad))


def _weight_on_the_prefix(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["token_weights"].__setitem__(0, 0.5))


def _strength(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row.update(step_strength=row["step_strength"] * 0.9))


def _value(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row.update(target_value=row["target_value"] * 0.9))


def _outside_id(rows: list[Row], rng: random.Random) -> list[Row]:
    bad = rng.choice([29, 30, 100_000, -1])

    def change(row: Row) -> None:
        set_last(row, "input_ids", bad)
        set_last(row, "labels", bad)

    return _some(rows, rng, change)


def _outside_prefix_id(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["input_ids"].__setitem__(0, rng.choice([29, 151_936, -7])))


def _other_prefix_id(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["input_ids"].__setitem__(1, (row["input_ids"][1] + 1) % 29))


def _other_step_id(rows: list[Row], rng: random.Random) -> list[Row]:
    """A token that exists, learned as if it were meant: only the proposals beside can tell."""

    def change(row: Row) -> None:
        other = (row["input_ids"][-1] + rng.randrange(1, 29)) % 29
        set_last(row, "input_ids", other)
        set_last(row, "labels", other)

    return _some(rows, rng, change)


def _label(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: set_last(row, "labels", (row["labels"][-1] + 1) % 29))


def _short(rows: list[Row], rng: random.Random) -> list[Row]:
    name = rng.choice(["input_ids", "labels", "token_weights"])
    return _some(rows, rng, lambda row: row[name].pop())


def _reordered(rows: list[Row], rng: random.Random) -> list[Row]:
    first, second = sorted(rng.sample(range(len(rows)), 2))
    rows[first], rows[second] = rows[second], rows[first]
    return rows


def _twice(rows: list[Row], rng: random.Random) -> list[Row]:
    place = rng.randrange(len(rows))
    return [*rows[:place], rows[place], *rows[place:]]


def _gone(rows: list[Row], rng: random.Random) -> list[Row]:
    rows.pop(rng.randrange(len(rows)))
    return rows


def _validity(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row.update(teacher_validity=row["teacher_validity"] / 2))


def _target(rows: list[Row], rng: random.Random) -> list[Row]:
    other = {"student": "teacher", "teacher": "student"}
    return _some(rows, rng, lambda row: row.update(target=other[row["target"]]))


def _step_index(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row.update(step_index=row["step_index"] + 1))


def _signal(rows: list[Row], rng: random.Random) -> list[Row]:
    with_signal = [row for row in rows if row["target"] == "teacher"]
    row = rng.choice(with_signal)
    if "teacher_signal" in row:
        blob = bytearray(row["teacher_signal"])
        blob[rng.randrange(6, len(blob))] ^= 0xFF
        row["teacher_signal"] = bytes(blob)
    else:
        rng.choice(
            [
                lambda: set_last(row, "teacher_topk_ids", [29, 3]),
                lambda: set_last(row, "teacher_topk_ids", [3, 3]),
                lambda: set_last(row, "teacher_topk_logprobs", [-0.1, -0.2]),
                lambda: set_last(row, "teacher_tail_logprob", 0.5),
                lambda: set_last(row, "teacher_topk_logprobs", [-0.5]),
            ]
        )()
    return rows


WITH_FITTING_MANIFEST: dict[str, Change] = {
    "one token's weight": _one_weight,
    "all weights of a shard": _all_weights,
    "weight moved between rows": _moved_weight,
    "no weight": _bad_weight,
    "weight on the prefix": _weight_on_the_prefix,
    "strength": _strength,
    "value": _value,
    "id out of the vocabulary": _outside_id,
    "prefix id out of the vocabulary": _outside_prefix_id,
    "another prefix": _other_prefix_id,
    "another step": _other_step_id,
    "another label": _label,
    "a value too few": _short,
    "reordered rows": _reordered,
    "a row twice": _twice,
    "a row less": _gone,
    "validity": _validity,
    "target": _target,
    "step index": _step_index,
    "teacher signal": _signal,
}


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def corrupt(training: Path, rng: random.Random, kind: str) -> None:
    """Do one thing to a folder; "mended" kinds make the manifest fit it."""
    shards = shard_files(training)
    shard = rng.choice(shards)
    if kind in WITH_FITTING_MANIFEST:
        rewrite(shard, lambda rows: WITH_FITTING_MANIFEST[kind](rows, rng))
        mend_manifest(training)
    elif kind.startswith("bit flip"):
        _flip(training / MANIFEST_NAME if "manifest" in kind else shard, rng)
    elif kind.startswith("truncation"):
        _truncate(training / MANIFEST_NAME if "manifest" in kind else shard, rng)
    elif kind.startswith("swapped shards"):
        first, second = (path.read_bytes() for path in shards)
        shards[0].write_bytes(second)
        shards[1].write_bytes(first)
    elif kind.startswith("missing column"):
        names = read_table(shard).column_names
        names.remove(rng.choice(names))
        rewrite(shard, lambda rows: rows, columns=names)
    elif kind.startswith("shard gone"):
        shard.unlink()
    if kind.endswith("mended") and not kind.startswith("shard gone"):
        mend_manifest(training)


KINDS = (
    *("bit flip",) * 16,
    *("bit flip in the manifest",) * 8,
    *("truncation", "truncation, mended", "truncation of the manifest") * 4,
    *("swapped shards", "swapped shards, mended", "shard gone"),
    *("missing column", "missing column, mended") * 4,
    *(*WITH_FITTING_MANIFEST,) * 3,
)[:100]
