"""Runs `vcrd` commands, each in a process of its own that starts in no time, as all is imported before it is forked.

python -m tests.vcrd.hub_driver
in:  {"command": ["push", ...], "cwd": "...", "renames": null}     a line each; SIGKILL as soon as so many are done
     the command load ORG/NAME CACHE prints what load_dataset makes of each config of a data set on the Hub
     the command rows CARD prints the rows that a source card names
out: {"pid": 7}, then {"rc": 0, "out": "..."}     rc is minus the signal where it was killed
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import jinja2  # noqa: F401
import yaml  # noqa: F401
from datasets import disable_progress_bars, get_dataset_config_names, info, load_dataset, splits  # noqa: F401
from huggingface_hub import CommitOperationAdd, DatasetCardData, HfApi  # noqa: F401
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure

from vcrd.cli import card, main, pull, push, validate  # noqa: F401
from vcrd.io.sources import read_source


def die_at(renames: int) -> None:
    """Let this process get SIGKILL when it has renamed so many paths, or is about to rename the first one."""
    rename, done = Path.rename, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal done
        renamed = rename(path, target) if renames else path
        done += 1
        if done >= renames:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    Path.rename = dying  # type: ignore[method-assign]


def load(repo: str, cache: str) -> None:
    disable_progress_bars()
    found = {}
    for name in get_dataset_config_names(repo):
        loaded = load_dataset(repo, name, split="train", cache_dir=cache)
        found[name] = {"features": str(loaded.features), "rows": loaded.to_list()}
    print(json.dumps(found, default=repr))  # noqa: T201


def rows(source: str) -> None:
    name, found = read_source(Path(source))
    print(json.dumps([name, [[row.place, row.values] for row in found]], default=repr))  # noqa: T201


OWN = {"load": load, "rows": rows}


def run(command: list[str], cwd: str, output: str) -> None:
    with open(output, "wb") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(cwd)
    sys.argv = ["vcrd", *command]
    code = 0
    try:
        OWN[command[0]](*command[1:]) if command[0] in OWN else main()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def warm_up() -> None:
    """Let the first picture find its fonts here, once, and not in every process."""
    figure = Figure()
    backend_agg.FigureCanvasAgg(figure)
    figure.add_subplot().plot([0, 1], label="x")
    figure.savefig(os.devnull, format="png")


if __name__ == "__main__":
    warm_up()
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.NamedTemporaryFile() as output:
            pid = os.fork()
            if pid == 0:
                if asked["renames"] is not None:
                    die_at(asked["renames"])
                run(asked["command"], asked["cwd"], output.name)
            print(json.dumps({"pid": pid}), flush=True)  # noqa: T201
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            text = output.read().decode(errors="replace")
            print(json.dumps({"rc": status, "out": text}), flush=True)  # noqa: T201
