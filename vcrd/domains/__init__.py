"""Demo problem generators with their exact oracles (for measuring only), and where a run's problem rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vcrd.domains import demo_math
from vcrd.errors import ConfigError
from vcrd.io.sources import SourceRow, is_card, read_card, read_source

_ORACLES = {demo_math.NAME: demo_math.step_is_valid}


def problem_rows(path: Path) -> tuple[str, Iterator[SourceRow]]:
    """Return the name of a source and its rows: anything that `read_source` takes, or the card of a generator.

    Raises:
        ConfigError: There is no such source.
    """
    card = read_card(path) if is_card(path) else {}
    if "generator" not in card:
        return read_source(path)
    if card["generator"] != demo_math.NAME:
        raise ConfigError(f"{path}: unknown generator {card['generator']!r}; known: {demo_math.NAME}")
    wanted = [value for name in ("n_terms", "count", "seed") if isinstance(value := card.get(name), int)]
    if len(wanted) < 3:
        raise ConfigError(f"{path}: {demo_math.NAME} takes the integers n_terms, count and seed, got {card}")
    rows = (
        SourceRow(f"problem {number}", {"prompt": prompt, "reference": reference})
        for number, (prompt, reference) in enumerate(demo_math.generate_problems(*wanted), start=1)
    )
    return demo_math.NAME, rows


def oracle_for(source: str) -> Callable[[str, Sequence[str], str], bool] | None:
    """Return the exact oracle of local validity for problems of a source; None where there is none."""
    return _ORACLES.get(source)
