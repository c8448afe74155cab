"""A disk that fills up amid a stage: the command says where, shows nothing half, and goes on when there is space.

The disk is a small tmpfs in a mount namespace of the user's own, so that no privilege is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.claims import ROOT, state
from benchmarks.faults.project import Project
from vcrd.errors import VcrdError
from vcrd.io.manifest import check_files, read_manifest

STAGE, MEBIBYTE = "squares", 2**20
_SET = ("run.num_shards=4", "run.workers=1", "chain.rows=400", "chain.width=8192")
_SAID = "no space left"


def fill(folder: Path, size: int) -> str | None:
    """Run the stage on a disk of `size` bytes, which is in a namespace of its own; say what was wrong."""
    command = ["unshare", "-Ur", "--mount", sys.executable, "-m", "benchmarks.faults.full_disk", str(folder), str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        return f"the disk could not be made: {done.stderr[-2000:]}"
    fault: str | None = json.loads(done.stdout.splitlines()[-1])
    return fault


def _mount(folder: Path, size: int, *options: str) -> None:
    how = ",".join([*options, f"size={size}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)], check=True)


def _fault(folder: Path, size: int) -> str | None:
    """Fill the disk mounted here, then make it larger and go on."""
    expected = Project(folder / "undisturbed", *_SET).make_all().digests(STAGE)
    disk = folder / "disk"
    disk.mkdir()
    _mount(disk, size)
    project = Project(disk / "project", *_SET)
    project.make("numbers")
    code, said = project.stage(STAGE)
    last = said.strip().splitlines()[-1]
    if code == 0 or _SAID not in last or not any(part in last for part in (f"scratch/chain/{STAGE}", "data/chain")):
        return f"exit code {code}, saying: {said[-1500:]}"
    output = project.context().layout.folder(STAGE)
    try:
        if output.exists():
            check_files(output, read_manifest(output))
    except VcrdError as error:
        return f"half an output is seen: {error}"
    if project.half_visible():
        return f"left behind: {project.half_visible()}"
    kept, begun = project.finished(), len(project.begun())
    _mount(disk, 64 * MEBIBYTE, "remount")
    code, said = project.stage(STAGE)
    if code:
        return f"does not resume: {said[-1500:]}"
    if any(project.finished().get(path) != identity for path, identity in kept.items()):
        return "a finished shard was computed again"
    made_before = sum("squares" in path for path in kept)
    if len(project.begun()) - begun != 4 - made_before:
        return f"{len(project.begun()) - begun} shards computed, {made_before} of 4 were finished"
    return None if project.digests(STAGE) == expected else "other bytes"


def fill_all(folder: Path, sizes: Sequence[int]) -> dict[int, str | None]:
    """Fill disks of these sizes, in bytes."""
    found = {}
    for size in sizes:
        (folder / str(size)).mkdir(parents=True)
        found[size] = fill(folder / str(size), size)
    return found


def claims() -> Iterator[bool]:
    """20 sizes: from hardly any room for a shard to all of scratch and most of the output."""
    sizes = [300_000 + 130_000 * number for number in range(20)]
    with tempfile.TemporaryDirectory() as name:
        found = fill_all(Path(name), sizes)
    faults = {size: fault for size, fault in found.items() if fault}
    sys.stderr.writelines(f"{size} bytes: {fault}\n" for size, fault in faults.items())
    text = "sizes of a full disk at which a stage shows half of something, hides where, or does not resume"
    yield state(text, len(faults), 0, "lower", n=len(sizes))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_fault(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
