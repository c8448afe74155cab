"""Where the files of a run lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vcrd.io.stores import StorePath


@dataclass(frozen=True)
class Layout:
    """Folders of one preset's run, relative to the working directory, so that no artefact holds an absolute path."""

    preset: str
    data: Path = Path("data")
    hidden: Path = Path(".vcrd")
    store: str | None = None

    def folder(self, artefact: str) -> Path:
        """Folder of an artefact."""
        return self.data / self.preset / artefact

    def rejects(self, stage: str) -> Path:
        """Folder of a stage's rejected rows."""
        return self.data / self.preset / "rejects" / stage

    def metrics(self, stage: str) -> Path:
        """File of a stage's counts and measures."""
        return self.data / self.preset / "metrics" / f"{stage}.json"

    def scratch(self, stage: str) -> Path:
        """Finished shards, kept across runs whatever makes DVC delete the outputs."""
        return self.hidden / "scratch" / self.preset / stage

    def shared(self, stage: str) -> StorePath | None:
        """Finished shards in the object store that machines share; None where they share none."""
        return StorePath.of(self.store) / self.preset / stage if self.store else None

    def timings(self, stage: str) -> Path:
        """Clock times of a stage: shown, never hashed."""
        return self.hidden / "timings" / self.preset / f"{stage}.json"

    def sample(self) -> Layout:
        """The same folders for samples (`--limit`), so that a sample never replaces a run's output."""
        return Layout(self.preset, self.hidden / "samples" / "data", self.hidden / "samples" / "hidden")
