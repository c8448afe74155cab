"""Bad records of 20 kinds: the good ones are unchanged, every reject has its reason, and the limit on them is kept."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.claims import state
from benchmarks.faults.demo import Demo, demo_rows
from benchmarks.faults.poison_models import (
    BAD_REQUESTS,
    bad_texts,
    nothing_but_bad_texts,
    poisoned_requests,
    poisoned_texts,
)
from vcrd.errors import SchemaError
from vcrd.io.sources import read_file_rows

SHARES = (0.01, 0.1, 1.0)
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Poison:
    """A kind of bad record.

    Attributes:
        name: Of the kind.
        reason: With which it is rejected; None where it is harmless, and stays the text that it is.
        line: Makes the number-th of the kind, as the source's line.
    """

    name: str
    reason: str | None
    line: Callable[[int], bytes]


def _row(**values: Any) -> bytes:
    return json.dumps({"reference": "1", **values}).encode()


def _prompt(name: str, reason: str | None, text: str) -> Poison:
    return Poison(name, reason, lambda number: _row(prompt=f"{text} {number}"))


POISONS = (
    Poison("broken JSON", "broken_json", lambda number: b'{"prompt": "a'),
    Poison("invalid UTF-8", "broken_json", lambda number: b'{"prompt": "\xff\xfe", "reference": "1"}'),
    Poison("not an object", "broken_json", lambda number: b"[1, 2]"),
    Poison("nested without end", "broken_json", lambda number: b"[" * 100_000),
    Poison("a number of 5,000 digits", "broken_json", lambda number: b'{"prompt": ' + b"9" * 5000 + b"}"),
    Poison("no prompt", "no_prompt", lambda number: _row()),
    Poison("an empty prompt", "no_prompt", lambda number: _row(prompt="")),
    Poison("blanks for a prompt", "no_prompt", lambda number: _row(prompt=" \n\t")),
    Poison("a number for a prompt", "no_prompt", lambda number: _row(prompt=number)),
    Poison("half a surrogate pair", "bad_text", lambda number: _row(prompt=f"\ud800 {number}")),
    Poison("a list for a reference", "bad_reference", lambda number: _row(prompt=f"a {number}", reference=[1])),
    Poison("NaN for a reference", "bad_reference", lambda number: _row(prompt=f"a {number}", reference=float("nan"))),
    Poison("an unknown split", "bad_split", lambda number: _row(prompt=f"a {number}", split="dev")),
    Poison("a list for a split", "bad_split", lambda number: _row(prompt=f"a {number}", split=[])),
    Poison("text for responses", "bad_responses", lambda number: _row(prompt=f"a {number}", responses="a")),
    Poison("numbers for responses", "bad_responses", lambda number: _row(prompt=f"a {number}", responses=[1])),
    Poison("a duplicate", "duplicate", lambda number: json.dumps(demo_rows(1)[0]).encode()),
    Poison(
        "half a surrogate pair in a response",
        "bad_text",
        lambda number: _row(prompt=f"a {number}", responses=["\udfff"]),
    ),
    Poison("half a pair in a rejected row", "bad_split", lambda number: _row(prompt="a", split="\ud800")),
    Poison(
        "half a surrogate pair in a reference",
        "bad_text",
        lambda number: _row(prompt=f"a {number}", reference="\ud800"),
    ),
    _prompt("null bytes", None, "a=1+1\x00;a?"),
    _prompt("an injected template", None, "{prompt} {0} {{7*7}} ${x} {% raw %} %s"),
    _prompt("tags of a chat", None, "<|im_end|><|im_start|>system <eos> </s> <think>"),
    _prompt("markup", None, "<script>alert(1)</script> ![x](file:///etc/passwd) ```"),
    _prompt("10 MB", "too_long", "a" * 10 * MEBIBYTE),
)
_COLUMNS = "problems.columns={prompt: prompt, reference: reference, split: split, responses: responses}"


def _mixed(good: Sequence[bytes], bad: Sequence[bytes], seed: int) -> list[bytes]:
    """Put bad lines among good ones, which stay in their order; the first good one stays first, for its duplicates."""
    rng, lines = random.Random(seed), list(good)
    for line in bad:
        lines.insert(rng.randint(min(1, len(lines)), len(lines)), line)
    return lines


def poisoned_problems(folder: Path, count: int, seed: int, shares: Sequence[float] = SHARES) -> dict[str, str | None]:
    """Mix a share of one kind into good problems and prepare them; says what was wrong, by kind and share."""
    good = [json.dumps(row).encode() for row in demo_rows(count)]
    clean = Demo(folder / "clean", good, _COLUMNS)
    clean.make("prepare_problems")
    expected = {row["problem_id"]: row for row in clean.rows("problems")}
    found: dict[str, str | None] = {}
    for kind, poison in enumerate(POISONS):
        for share in shares:
            name = f"{poison.name} {share:.0%}"
            lines = [poison.line(number) for number in range(max(1, round(count * share)))]
            if len(lines[0]) > MEBIBYTE:
                lines = lines[:3]
            mixed = _mixed(good if share < 1 or poison.name == "a duplicate" else [], lines, seed)
            found[name] = _problems_fault(
                Demo(folder / f"{kind}-{share}", mixed, _COLUMNS), poison, len(lines), expected, share
            )
    return found


def _problems_fault(demo: Demo, poison: Poison, bad: int, expected: Mapping[str, Any], share: float) -> str | None:
    whole = share == 1 and poison.name != "a duplicate"
    if whole and poison.reason is not None:
        try:
            demo.make("prepare_problems")
        except SchemaError as error:
            said = f"prepare_problems rejected {bad} of {bad} rows ({poison.reason} {bad}); the limit is 50%"
            return None if said in str(error) else f"said: {error}"
        return "nothing but bad records was no error"
    manifest = demo.make("prepare_problems")
    wanted = {poison.reason: bad} if poison.reason else {}
    if manifest.rejects != wanted:
        return f"rejects {manifest.rejects} instead of {wanted}"
    rows = {row["problem_id"]: row for row in demo.rows("problems")}
    if not whole and any(rows.get(name) != row for name, row in expected.items()):
        return "good rows were changed"
    return None if len(rows) == (0 if whole else len(expected)) + (0 if poison.reason else bad) else "rows are lost"


def spoilt_parquet(folder: Path) -> str | None:
    """Read text that is no UTF-8 out of Parquet, which does not see to it; says what was wrong."""
    folder.mkdir(parents=True)
    texts = pa.array([b"good one", b"\xff\xfe", b"good two"], pa.binary())
    spoilt = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
    pq.write_table(pa.table({"prompt": spoilt}), folder / "spoilt.parquet")
    rows = list(read_file_rows(folder / "spoilt.parquet"))
    kept = [row.values["prompt"] for row in rows if row.values is not None]
    if kept != ["good one", "good two"] or len(rows) != 3:
        return f"read {rows}"
    (folder / "torn.parquet").write_bytes((folder / "spoilt.parquet").read_bytes()[:-9])
    try:
        list(read_file_rows(folder / "torn.parquet"))
    except SchemaError as error:
        return None if "torn.parquet" in str(error) else f"said: {error}"
    return "a torn file was read without a word"


def claims() -> Iterator[bool]:
    """Poisoned problems, texts and requests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {**poisoned_problems(folder / "problems", 100, seed=8), "Parquet": spoilt_parquet(folder / "parquet")}
        faults = [f"{kind}: {fault}" for kind, fault in found.items() if fault]
        requests = poisoned_requests(folder / "requests", count=40)
        texts = poisoned_texts(folder / "texts", count=40)
        alone = nothing_but_bad_texts(folder / "alone")
    sys.stderr.writelines(f"{fault}\n" for fault in [*faults, *requests, *texts, alone or ""])
    text = "kinds of bad problem, at 1, 10 and 100 %, that change a good row, lack their reason or pass the limit"
    yield state(text, len(faults), 0, "lower", n=len(found))
    yield state("faults of good requests among bad ones", len(requests), 0, "lower", n=40 + BAD_REQUESTS)
    wrong = len(texts) + (alone is not None)
    yield state("faults of good rollouts among bad prompts and responses", wrong, 0, "lower", n=80 + len(bad_texts()))
