"""Demo problem generators with their exact oracles (for measuring only), and where a run's problem rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from vcrd.domains import demo_math
from vcrd.errors import ConfigError
from vcrd.io.sources import SourceRow, read_file_rows, read_hub_rows

_ORACLES = {demo_math.NAME: demo_math.step_is_valid}


def problem_rows(path: Path) -> tuple[str, Iterator[SourceRow]]:
    """Return the name of a source and its rows: a file, a folder, or a source card (Hub data set, generator).

    Raises:
        ConfigError: There is no such source.
    """
    if path.suffix not in (".yaml", ".yml"):
        return path.name, read_file_rows(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such source card")
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(card, dict) or not {"hub", "generator"} & set(card):
        raise ConfigError(f"{path}: expected a source card with the key hub or generator")
    if "hub" in card:
        return str(card["hub"]), read_hub_rows(card)
    if card["generator"] != demo_math.NAME:
        raise ConfigError(f"{path}: unknown generator {card['generator']!r}; known: {demo_math.NAME}")
    problems = demo_math.generate_problems(card["n_terms"], card["count"], card["seed"])
    rows = (
        SourceRow(f"problem {number}", {"prompt": prompt, "reference": reference})
        for number, (prompt, reference) in enumerate(problems, start=1)
    )
    return demo_math.NAME, rows


def oracle_for(source: str) -> Callable[[str, Sequence[str], str], bool] | None:
    """Return the exact oracle of local validity for problems of a source; None where there is none."""
    return _ORACLES.get(source)
