"""A student that several processes of this machine train: a launcher starts this module once for each of them.

The process that launches stays the one that locks, checks and publishes; the ranks only train, and the first one of
them writes.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError, SchemaError, VcrdError
from vcrd.io.files import read_json, write_json
from vcrd.training.params import TrainParams

LAUNCHER = "VCRD_LAUNCHER"
"""Environment variable: `accelerate launch ...` or `torchrun ...`, up to where the program to start would stand."""
_TOLD = {kind.__name__: kind for kind in (ConfigError, SchemaError)}


def rank_count() -> int:
    """Return how many processes a launcher (torchrun, accelerate) has started together with this one; 1 without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Tell whether this process is the one that speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def refuse_ranks() -> None:
    """Refuse to be a rank of somebody's launcher: each would lock, plan and write for itself.

    Raises:
        ConfigError: This process is one.
    """
    if rank_count() > 1:
        raise ConfigError(
            f"a launcher started this stage {rank_count()} times; start it once, with the launcher in {LAUNCHER}"
        )


def launch_student(
    model_path: str,
    revision: str | None,
    training_dir: Path,
    output_dir: Path,
    params: TrainParams,
    *,
    seed: int,
) -> None:
    """Do what `train_student` does in as many processes as the launcher in the environment starts; in this one without.

    Raises:
        ConfigError: There is no such launcher, or what a rank has to say.
        SchemaError: Likewise.
        VcrdError: A rank was killed, or has a bug.
    """
    try:
        launcher = shlex.split(os.environ.get(LAUNCHER, ""))
    except ValueError as unread:
        raise ConfigError(f"{LAUNCHER} cannot be read ({unread}); write it as for a shell") from unread
    if not launcher:
        from vcrd.training.student import train_student

        train_student(model_path, revision, training_dir, output_dir, params, seed=seed)
        return
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch) / "error.json"
        task = {
            "model_path": model_path,
            "revision": revision,
            "training_dir": str(training_dir),
            "output_dir": str(output_dir),
            "params": asdict(params),
            "seed": seed,
            "told": str(told),
        }
        code = _run([*launcher, "-m", __name__, json.dumps(task)])
        if code and told.is_file():
            error = read_json(told)
            raise _TOLD[error["kind"]](error["message"])
        if code:
            raise VcrdError(
                f"{launcher[0]} ended with code {code}: a rank died, see above; nothing was kept, run again"
            )


def _run(command: list[str]) -> int:
    """Run a launcher; its ranks end with this process, however that ends: their standard input is closed then."""
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            return process.wait()
    except FileNotFoundError as error:
        raise ConfigError(f"{LAUNCHER} begins with {command[0]!r}, and there is no such program") from error


def main(task: dict[str, Any]) -> None:
    """Be a rank."""
    from vcrd.training.student import train_student

    threading.Thread(target=_exit_when_closed, daemon=True).start()
    told = Path(task.pop("told"))
    task |= {name: Path(task[name]) for name in ("training_dir", "output_dir")}
    task["params"] = TrainParams(**task["params"])
    try:
        train_student(**task)
    except tuple(_TOLD.values()) as error:
        write_json(told, {"kind": type(error).__name__, "message": str(error)})
        sys.exit(error.exit_code)


def _exit_when_closed() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
