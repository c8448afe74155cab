"""`vcrd validate`: passes what a run wrote, and finds what was done to it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vcrd.made_run import Row, make_run, mend_manifest, rewrite
from tests.vcrd.test_cli import vcrd
from vcrd.errors import ConfigError
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.parquet import read_table, shard_files
from vcrd.validate import Findings, validate

Change = Callable[[list[Row], random.Random], list[Row]]
SIGNALS = ("plain", "compact")


@pytest.fixture(scope="module", params=SIGNALS)
def clean(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp(request.param) / "run", signal=request.param)


@pytest.fixture
def run(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "run")
    return tmp_path / "run"


def faults(folder: Path) -> list[str]:
    return [str(fault) for item in validate(folder) for fault in item.faults]


def of_training(run: Path) -> Findings:
    return validate(run / "training")[0]


def test_what_a_run_wrote_holds_in_every_check(clean: Path) -> None:
    found = {item.artefact: item for item in validate(clean)}
    assert {name: item.faults for name, item in found.items()} == {name: [] for name in found}
    training = found["training"]
    statuses = {name: training.status(name) for name in training.checks}
    assert set(statuses.values()) == {"holds"}
    assert set(statuses) == {
        "manifest",
        "checksums",
        "schema",
        "keys",
        "row order",
        "tokenizer",
        "lengths",
        "labels",
        "weights",
        "mean weight",
        "weight scale",
        "vocabulary",
        "teacher signal",
        "ids",
        "validities",
        "targets",
        "strengths",
        "prefixes",
        "steps",
        "validities beside",
    }


def test_what_cannot_be_checked_is_said(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "training", alone)
    (alone / MANIFEST_NAME).unlink()
    [found] = validate(alone)
    unknown = {"manifest", "checksums", "tokenizer", "prefixes", "steps", "validities beside", "targets", "strengths"}
    plain = "teacher_topk_ids" in read_table(shard_files(alone)[0]).column_names
    assert not found.faults
    assert {name for name in found.checks if found.status(name) == "not checked"} == unknown | (
        {"vocabulary"} if plain else set()
    )


# What is done to a shard, with the manifest made to fit: only the rows themselves can tell.
def _some(rows: list[Row], rng: random.Random, change: Callable[[Row], None]) -> list[Row]:
    change(rng.choice(rows))
    return rows


def _last(row: Row, column: str, value: object) -> None:
    row[column][-1] = value


def _one_weight(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: _last(row, "token_weights", row["token_weights"][-1] + 0.01))


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
    return _some(rows, rng, lambda row: _last(row, "token_weights", bad))


def _weight_on_the_prefix(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["token_weights"].__setitem__(0, 0.5))


def _strength(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row.update(step_strength=row["step_strength"] * 0.9))


def _outside_id(rows: list[Row], rng: random.Random) -> list[Row]:
    bad = rng.choice([29, 30, 100_000, -1])

    def change(row: Row) -> None:
        _last(row, "input_ids", bad)
        _last(row, "labels", bad)

    return _some(rows, rng, change)


def _outside_prefix_id(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["input_ids"].__setitem__(0, rng.choice([29, 151_936, -7])))


def _other_prefix_id(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: row["input_ids"].__setitem__(1, (row["input_ids"][1] + 1) % 29))


def _other_step_id(rows: list[Row], rng: random.Random) -> list[Row]:
    """A token that exists, learned as if it were meant: only the proposals beside can tell."""

    def change(row: Row) -> None:
        other = (row["input_ids"][-1] + rng.randrange(1, 29)) % 29
        _last(row, "input_ids", other)
        _last(row, "labels", other)

    return _some(rows, rng, change)


def _label(rows: list[Row], rng: random.Random) -> list[Row]:
    return _some(rows, rng, lambda row: _last(row, "labels", (row["labels"][-1] + 1) % 29))


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
                lambda: _last(row, "teacher_topk_ids", [29, 3]),
                lambda: _last(row, "teacher_topk_ids", [3, 3]),
                lambda: _last(row, "teacher_topk_logprobs", [-0.1, -0.2]),
                lambda: _last(row, "teacher_tail_logprob", 0.5),
                lambda: _last(row, "teacher_topk_logprobs", [-0.5]),
            ]
        )()
    return rows


def _nothing(rows: list[Row], rng: random.Random) -> list[Row]:
    return rows


WITH_FITTING_MANIFEST: dict[str, Change] = {
    "one token's weight": _one_weight,
    "all weights of a shard": _all_weights,
    "weight moved between rows": _moved_weight,
    "no weight": _bad_weight,
    "weight on the prefix": _weight_on_the_prefix,
    "strength": _strength,
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


@pytest.mark.parametrize("seed", range(30))
def test_a_bit_flip_under_a_fitting_manifest_is_found_or_changes_no_row(clean: Path, run: Path, seed: int) -> None:
    corrupt(run / "training", random.Random(seed), "bit flip, mended")
    if not of_training(run).faults:
        for before, after in zip(shard_files(clean / "training"), shard_files(run / "training"), strict=True):
            assert read_table(before).equals(read_table(after))


def test_there_are_100_corruptions() -> None:
    assert len(KINDS) == 100
    assert set(WITH_FITTING_MANIFEST) <= set(KINDS)


@pytest.mark.parametrize("seed", range(100))
def test_corruption_is_found(run: Path, seed: int) -> None:
    corrupt(run / "training", random.Random(seed), KINDS[seed])
    assert of_training(run).faults, KINDS[seed]


def test_a_fault_names_file_column_and_row(run: Path) -> None:
    shard = shard_files(run / "training")[1]

    def change(rows: list[Row]) -> list[Row]:
        _last(rows[7], "token_weights", float("nan"))
        return rows

    rewrite(shard, change)
    mend_manifest(run / "training")
    told = faults(run)
    assert "file part-00001.parquet, column token_weights, row 7: expected a finite weight >= 0" in told


def test_other_artefacts_get_what_all_have(run: Path) -> None:
    rewrite(shard_files(run / "validity")[0], lambda rows: [rows[1], rows[0], rows[1], *rows[2:]])
    mend_manifest(run / "validity")
    found = next(item for item in validate(run) if item.artefact == "validity")
    assert {name: found.status(name) for name in ("keys", "row order", "manifest", "checksums")} == {
        "keys": "fails",
        "row order": "fails",
        "manifest": "fails",
        "checksums": "holds",
    }
    (run / "rollouts/extra.json").write_text("{}")
    assert "file extra.json: is not named in the manifest" in faults(run)


def test_a_folder_without_data_is_a_users_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError):
            validate(folder)


def test_the_command_ends_with_0_2_or_3(run: Path, tmp_path: Path) -> None:
    assert "holds       prefixes" in vcrd("validate", run).stdout
    assert json.loads(vcrd("validate", run, "--json").stdout)["ok"] is True
    vcrd("validate", tmp_path / "none", expect=2)
    shard_files(run / "training")[0].unlink()
    done = vcrd("validate", run / "training", "--json", expect=3)
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["artefacts"][0]["faults"][0]["file"] == "part-00000.parquet"
    assert "named in the manifest but missing" in done.stderr


@pytest.mark.parametrize("strength", [0.0, float("inf")])
def test_weights_without_a_strength_behind_them_are_found(run: Path, strength: float) -> None:
    for path in shard_files(run / "training"):
        rewrite(path, lambda rows: [{**row, "step_strength": strength} for row in rows])
    mend_manifest(run / "training")
    assert of_training(run).status("weight scale") == "fails"


@pytest.mark.parametrize(
    "change",
    [
        {"artefact": "other"},
        {"artefact": []},
        {"provenance": []},
        {"provenance": {"params": 5}},
        {"provenance": {"params": {"weights": 5, "calibration": {"tau": -1}}}},
        {"provenance": {"params": {"weights": {"w_max": "x"}}}},
        {"files": [{"file": 5, "sha256": "", "fingerprint": ""}]},
    ],
)
def test_a_manifest_may_say_anything(run: Path, change: Row) -> None:
    manifest = json.loads((run / "training" / MANIFEST_NAME).read_text())
    (run / "training" / MANIFEST_NAME).write_text(json.dumps({**manifest, **change}, indent=2) + "\n")
    assert of_training(run).status("manifest") == "fails"


def test_links_into_a_cache_are_as_good_as_files(run: Path, tmp_path: Path) -> None:
    for path in shard_files(run / "training"):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert faults(run / "training") == []
    (tmp_path / shard_files(run / "training")[0].name).unlink()
    assert "named in the manifest but missing" in faults(run / "training")[0]
