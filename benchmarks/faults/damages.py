"""Flipped bits, truncated, emptied and swapped files: all are found, and nothing but what is damaged is made again."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import state
from benchmarks.faults.project import Project
from vcrd.errors import SchemaError

DAMAGES = {"bit flip": 300, "truncation": 50, "empty file": 10, "swapped shards": 10}
_SCRATCH = ".vcrd/scratch/chain"


@dataclass(frozen=True)
class Target:
    """Files of one kind: the stage that makes them again, or that reads them and must refuse."""

    name: str
    files: str
    stage: str
    read_by: str | None = None
    whole: bool = False


TARGETS = (
    Target("rows of a shard", f"{_SCRATCH}/squares/part-?????-????????????????.parquet", "squares"),
    Target("rejects of a shard", f"{_SCRATCH}/squares/part-*.rejects.parquet", "squares"),
    Target("entry of a shard", f"{_SCRATCH}/squares/part-*.json", "squares"),
    Target("rows of a whole stage", f"{_SCRATCH}/numbers/*/out/part-*.parquet", "numbers", whole=True),
    Target("rejects of a whole stage", f"{_SCRATCH}/numbers/*/part-*.parquet", "numbers", whole=True),
    Target("proof of these rejects", f"{_SCRATCH}/numbers/*/rejects.json", "numbers", whole=True),
    Target("manifest of a whole stage", f"{_SCRATCH}/numbers/*/out/_manifest.json", "numbers", whole=True),
    Target("an output's shard", "data/chain/squares/part-*.parquet", "squares", read_by="sums"),
    Target("an output's manifest", "data/chain/squares/_manifest.json", "squares", read_by="sums"),
    Target("a shard of which every byte counts", "data/chain/totals/part-*.parquet", "totals", read_by="marks"),
    Target("its manifest", "data/chain/totals/_manifest.json", "totals", read_by="marks"),
)


def _flip(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(raw))


def _truncate(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.randrange(1, len(raw))])


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


_BY_KIND: dict[str, Callable[[Path, random.Random], None]] = {
    "bit flip": _flip,
    "truncation": _truncate,
    "empty file": _empty,
}


def damage(files: Sequence[Path], kind: str, rng: random.Random) -> list[Path]:
    """Do one damage to one of some files, or to two; returns which."""
    if kind == "swapped shards":
        hit = rng.sample(list(files), 2)
        contents = [path.read_bytes() for path in hit]
        for path, content in zip(hit, reversed(contents), strict=True):
            path.write_bytes(content)
        return hit
    hit = [rng.choice(list(files))]
    _BY_KIND[kind](hit[0], rng)
    return hit


def fault_of(project: Project, target: Target, kind: str, rng: random.Random, expected: dict[str, str]) -> str | None:
    """Damage a finished project and run what is concerned; say what was wrong, None where nothing was."""
    files = sorted(path for path in project.root.glob(target.files) if ".tmp-" not in str(path))
    hit = damage(files, kind, rng)
    begun = len(project.begun())
    if target.read_by is not None:
        scratch = project.root / _SCRATCH / target.read_by
        scratch.rename(scratch.with_suffix(".kept"))
        try:
            project.make(target.read_by)
            return "read without a word"
        except SchemaError as error:
            if str(project.root / Path(target.files).parent) not in str(error):
                return f"refused without naming it: {error}"
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.with_suffix(".kept").rename(scratch)
    project.make(target.stage)
    redone = set(project.begun()[begun:]) if target.read_by is None else set()
    wanted = {f"{target.stage} {'all' if target.whole else path.name[:10] + '.parquet'}" for path in hit}
    if target.read_by is None and redone != wanted:
        return f"made again: {sorted(redone)} instead of {sorted(wanted)}"
    return None if project.digests() == expected else "other bytes"


def damage_all(folder: Path, counts: dict[str, int], seed: int) -> list[str]:
    """Do so many damages of each kind, in turn to every kind of file; returns what was wrong."""
    project = Project(folder / "damaged", "run.num_shards=3", "chain.rows=60").make_all()
    expected, rng, faults = project.digests(), random.Random(seed), []
    for kind, count in counts.items():
        several = [target for target in TARGETS if len(list(project.root.glob(target.files))) > 1]
        targets = several if kind == "swapped shards" else TARGETS
        for number in range(count):
            target = targets[number % len(targets)]
            fault = fault_of(project, target, kind, rng, expected)
            if fault:
                faults.append(f"{kind} {number}, {target.name}: {fault}")
                project.make_all()
    return faults


def claims() -> Iterator[bool]:
    """370 damages."""
    with tempfile.TemporaryDirectory() as folder:
        faults = damage_all(Path(folder), DAMAGES, seed=8)
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    text = "damages to shards, manifests and sidecars that are not found, or cost more than what they hit"
    yield state(text, len(faults), 0, "lower", n=sum(DAMAGES.values()))
