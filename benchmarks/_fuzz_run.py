"""One parser under atheris, in this process: atheris takes it over and does not give it back.

    python -m benchmarks._fuzz_run NAME EXECUTIONS SECONDS FOLDER

A line of JSON in FOLDER/result.json says what came of it, and is there from the first second on, so that an end by a
signal or a hang leaves the counts. A finding does not end the run: each place that raises is told once.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._fuzz_edits import random_edit

SEED, MAX_BYTES, MEMORY_MB = 20261124, 4096, 4096
_EVERY = 1.0


@dataclass(slots=True)
class Progress:
    """What came of a run so far, and where that is told."""

    file: Path
    most: int
    until: float
    started: float = field(default_factory=time.monotonic)
    executions: int = 0
    taken: int = 0
    slowest: float = 0.0
    told: float = 0.0
    findings: dict[str, dict[str, str]] = field(default_factory=dict)

    def count(self, seconds: float, taken: bool) -> None:
        """Count a call; end the process when there were enough."""
        self.executions += 1
        self.taken += taken
        self.slowest = max(self.slowest, seconds)
        now = time.monotonic() - self.started
        if now - self.told > _EVERY or self.executions >= self.most:
            self.told = now
            self.tell(now)
            if self.executions >= self.most or now >= self.until:
                os._exit(0)  # the fuzzer's own end runs no exit handler either, and its status is not ours

    def tell(self, seconds: float) -> None:
        """Write the counts."""
        names = ("executions", "taken", "slowest", "findings")
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        self.file.write_text(json.dumps({**told, "seconds": seconds}), encoding="utf-8")

    def found(self, error: Exception, data: bytes) -> None:
        """Keep a finding: the kind of error, where it was raised, the input."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "_fuzz_run" not in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        ours = next((f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames) if "/vcrd/" in f.filename), place)
        key = f"{type(error).__name__} at {place} from {ours}"
        if key not in self.findings:
            self.findings[key] = {"message": str(error)[:200], "input": data[:MAX_BYTES].hex()}
            self.tell(time.monotonic() - self.started)


def main(name: str, executions: int, seconds: float, folder: Path) -> None:
    """Fuzz a parser until so many executions or seconds are over."""
    import atheris

    with atheris.instrument_imports(include=["vcrd", "pipeline.params"]):
        from benchmarks._fuzz_targets import TARGETS, attempt, warm_up
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for index, seed in enumerate(target.seeds):
        (corpus / f"{index:04d}").write_bytes(seed)
    warm_up(target)
    progress = Progress(folder / "result.json", executions, seconds)

    def one(data: bytes) -> None:
        started = time.process_time()
        taken = False
        try:
            taken = attempt(target, data)
        except Exception as error:
            progress.found(error, data)
        progress.count(time.process_time() - started, taken)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        edited = random_edit(data, random.Random(seed)) if seed % 2 else data
        return edited if edited != data and len(edited) <= most else bytes(atheris.Mutate(data, most))

    wall = round(20 * target.seconds)
    limits = {"len_control": 0, "seed": SEED, "max_len": MAX_BYTES, "timeout": wall, "rss_limit_mb": MEMORY_MB}
    options = [f"-{key}={value}" for key, value in limits.items()]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
