"""`vcrd verify`: rule verdicts for a file of model outputs, on all cores."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import click

from vcrd.errors import SchemaError
from vcrd.io.files import atomic_write
from vcrd.io.progress import Progress
from vcrd.io.sources import SourceRow, read_file_rows
from vcrd.problems import REFERENCES
from vcrd.verifiers.domain import DomainVerifier, VerifierParams
from vcrd.verifiers.outputs import read_output, verify_output

_CHUNK = 16
_LONE = "backslashreplace"  # half a surrogate pair, which JSON can escape and UTF-8 cannot hold, stays escaped


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@click.command(name="verify")
@click.argument("source", metavar="INPUT.jsonl", type=click.Path(path_type=Path))
@click.option("--domain", type=click.Choice(list(REFERENCES)), required=True, help="Whose rules.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the verdicts go (JSON lines)."
)
@click.option("--modulus", type=click.IntRange(min=2), help="Arithmetic in steps holds modulo this integer.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=lambda: len(os.sched_getaffinity(0)), show_default="cores"
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(source: Path, domain: str, output: Path, modulus: int | None, workers: int, as_json: bool) -> None:
    """Judge model outputs by rules.

    \b
    vcrd verify outputs.jsonl --domain math -o verdicts.jsonl
    vcrd verify programs.jsonl.gz --domain code -o verdicts.jsonl --json | jq .verdicts

    Rows in: id, prompt, reference, response, and steps (a list of strings) where they are not to be cut by the domain's
    rules. Rows out, in the same order: id, verdict, reason, steps (text, verdict, reason); for instructions also each
    instruction (id, strict, loose, reason). A row that cannot be read is in OUTPUT.rejects.jsonl, with its reason.

    Exit codes: 0 done, 2 you can fix it (a file, the sandbox), 3 no row could be read.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    total = sum(1 for _ in read_file_rows(source))
    counts: Counter[str] = Counter()
    rejects: list[dict[str, Any]] = []

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors=_LONE) as file, Progress("verify", total) as progress:
            for row in _judge_all(read_file_rows(source), domain, modulus, min(workers, max(total // _CHUNK, 1))):
                progress.advance(1)
                if "error" in row:
                    rejects.append(row)
                    continue
                counts[row["verdict"]] += 1
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    atomic_write(output, write)
    _write_rejects(output, rejects)
    _tell(total, counts, len(rejects), output, as_json)
    if rejects and not counts:
        raise SchemaError(f"no row could be read; the first: {rejects[0]['error']}", file=source)


def _tell(total: int, counts: Counter[str], rejected: int, output: Path, as_json: bool) -> None:
    verdicts = dict(sorted(counts.items()))
    if as_json:
        click.echo(json.dumps({"output": str(output), "rows": total, "verdicts": verdicts, "rejected": rejected}))
        return
    told = ", ".join(f"{count} {name}" for name, count in verdicts.items()) or "none"
    click.echo(f"{total} rows: {told}; {rejected} rejected -> {output}")


def _judge_all(rows: Iterable[SourceRow], domain: str, modulus: int | None, workers: int) -> Iterator[dict[str, Any]]:
    """Judge rows in chunks, in their order; a bounded number of chunks is under way."""
    source = iter(rows)
    chunks = iter(lambda: list(islice(source, _CHUNK)), [])
    if workers == 1:
        for chunk in chunks:
            yield from _judge(chunk, domain, modulus)
        return
    with ProcessPoolExecutor(workers) as pool:
        under_way = []
        for chunk in chunks:
            under_way.append(pool.submit(_judge, chunk, domain, modulus))
            if len(under_way) > 2 * workers:
                yield from under_way.pop(0).result()
        for future in under_way:
            yield from future.result()


def _judge(rows: Sequence[SourceRow], domain: str, modulus: int | None) -> list[dict[str, Any]]:
    return [_judge_row(row, domain, modulus) for row in rows]


def _judge_row(row: SourceRow, domain: str, modulus: int | None) -> dict[str, Any]:
    if row.values is None:
        return {"place": row.place, "error": f"not a JSON object: {row.error}"}
    try:
        return verify_output(read_output(row.values, domain, row.place), _verifier(modulus))
    except SchemaError as error:
        return {"place": row.place, "error": str(error), "row": dict(row.values)}


@cache
def _verifier(modulus: int | None) -> DomainVerifier:
    return DomainVerifier(VerifierParams(modulus=modulus))


def _write_rejects(output: Path, rejects: Sequence[dict[str, Any]]) -> None:
    path = output.with_name(f"{output.name}.rejects.jsonl")
    path.unlink(missing_ok=True)
    if rejects:
        lines = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rejects)
        atomic_write(path, lambda temporary: _write_text(temporary, lines))
        click.echo(f"{len(rejects)} rows could not be read: {path}; the first: {rejects[0]['error']}", err=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors=_LONE)
