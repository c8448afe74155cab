"""Demo problem generators with their exact oracles (for measuring only), and where a run's problem rows come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vcrd.domains import demo_code, demo_instructions, demo_math
from vcrd.domains.base import DemoDomain
from vcrd.errors import ConfigError, did_you_mean
from vcrd.evaluation import Oracle
from vcrd.io.sources import SourceRow, is_card, read_card, read_source

_ALL = (demo_math.DOMAIN, demo_code.DOMAIN, demo_instructions.DOMAIN)
DOMAINS: dict[str, DemoDomain] = {domain.name: domain for domain in _ALL}


def problem_rows(path: Path) -> tuple[str, Iterator[SourceRow]]:
    """Return the name of a source and its rows: anything that `read_source` takes, or the card of a generator.

    Raises:
        ConfigError: There is no such source.
    """
    card = read_card(path) if is_card(path) else {}
    if "generator" not in card:
        return read_source(path)
    name = str(card["generator"])
    domain = DOMAINS.get(name)
    if domain is None:
        raise ConfigError(f"{path}: unknown generator {name!r}{did_you_mean(name, DOMAINS)}")
    wanted = [value for key in domain.arguments if isinstance(value := card.get(key), int)]
    if len(wanted) < len(domain.arguments):
        raise ConfigError(f"{path}: {name} takes the integers {', '.join(domain.arguments)}, got {card}")
    rows = (
        SourceRow(f"problem {number}", {"prompt": prompt, "reference": reference})
        for number, (prompt, reference) in enumerate(domain.generate_problems(*wanted), start=1)
    )
    return name, rows


def oracle_for(source: str) -> Oracle | None:
    """Return the exact oracle of local validity for problems of a source; None where there is none."""
    domain = DOMAINS.get(source)
    return domain.step_is_valid if domain else None
