"""Every parser that is fuzzed: what is called with bytes, what one call may cost, and what a fuzzer starts from.

The same table serves `python -m benchmarks.fuzz` and the tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import _fuzz_data, _fuzz_rows, _fuzz_text
from benchmarks._fuzz_text import REPEATED
from benchmarks.claims import ROOT
from vcrd.errors import VcrdError
from vcrd.records import PROBLEMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser.

    Attributes:
        call: Parses; raises a `VcrdError` for what it refuses, anything else is a finding.
        seconds: What a call may cost: processor time of this process, and as much again for each process it asks.
        seeds: Where a fuzzer starts.
    """

    call: Callable[[bytes], object]
    seconds: float
    seeds: Sequence[bytes]


class Slow(Exception):
    """A call cost more than its bound."""


def attempt(target: Target, data: bytes) -> bool:
    """Call a parser once; return whether it took the input.

    Raises:
        Slow: It cost more than its bound.
        Exception: It raised what the design has no kind for.
    """
    started, wall = time.process_time(), time.perf_counter()
    try:
        target.call(data)
        taken = True
    except VcrdError:
        taken = False
    spent = time.process_time() - started
    if spent > target.seconds or time.perf_counter() - wall > _WAITS * target.seconds:
        raise Slow(f"{spent:.1f} s, the bound is {target.seconds:g} s")
    return taken


def warm_up(target: Target) -> None:
    """Pay for the imports of first calls, and for the start of what they ask."""
    for seed in target.seeds[:: 1 + len(target.seeds) // 12]:
        with contextlib.suppress(VcrdError):
            target.call(seed)


_WAITS = 10  # a machine that others use too gives a process a tenth of its time at worst


def _texts(*texts: str) -> list[bytes]:
    """Return texts for each way that a target has of reading them, and repeated ones for some."""
    short = [bytes([how]) + text.encode() for text in texts for how in range(40)]
    return [*short, *(bytes([how]) + f"{text}{REPEATED}".encode() for how, text in enumerate(texts))]


_SOLUTIONS = (
    "Tom has 3*4 = 12 eggs.\nHe eats 5% of $40: 0.05*40=<<0.05*40=2>>2.\n\n"
    "So A = 1/2 + 2^3 = 8.5, 1,000 - 1 = 999\n#### 12",
    "\\[ x = \\frac{1}{2} \\]\n\n\\begin{align} a &= 2 \\times 3 \\\\ &= 6 \\end{align} "
    "$$y$$ so \\boxed{\\frac{3}{4}}\x1f= 7",
    'Dr. No said: "e.g. this!" Then (3.) it went on… 。\n'
    "# Head\n- item one.\n  more\n| a | b |\n|---|---|\n\x1f1. Next",
)
_PROGRAMS = (
    "Here:\n```python\nimport os\ndef f(x):\n    return (x +\n        1)\n```\nDone.\x1f    print(f(2))\n",
    '{"tests": "assert f(1) == 2", "entry_point": "f"}\x1fdef f(x):\n    """doc ``` """\n    @g\n    return x ** 2\n',
    "x = [1, 2\ny = 'a\\\n'\nfor i in x:\n\tpass\nelse:\n  del y\n~~~py\n>>> 1\n~~~\n",
)
_OPTIONS = {
    "keywords": ["a", "b+"],
    "keyword": "x",
    "frequency": 2,
    "relation": "at least",
    "forbidden_words": ["no"],
    "letter": "q",
    "let_frequency": 1,
    "let_relation": "less than",
    "language": "de",
    "num_sentences": 2,
    "num_words": 3,
    "num_paragraphs": 2,
    "nth_paragraph": 1,
    "first_word": "x",
    "num_placeholders": 1,
    "postscript_marker": "P.S.",
    "num_bullets": 2,
    "num_highlights": 1,
    "section_spliter": "Part",
    "num_sections": 2,
    "prompt_to_repeat": "Say",
    "end_phrase": "end",
    "capital_frequency": 1,
    "capital_relation": "at least",
    "start_phrase": "Say",
    "words": ["A", "b"],
}
_ANSWERS = (
    "Say: A b, and *x*.\n***\n<<T>> **two**\n******\n[one] X part",
    '"Ein Satz. Zwei! Part 1 Part 2\n\n* one\n- two\n\nP.S. the end"',
    '```json\n{"a": [1, 2]}\n```',
)
_ASKED = (
    *(f"{json.dumps(_OPTIONS)}\x1f{answer}" for answer in _ANSWERS),
    '{"instruction_id_list": ["keywords:existence", "punctuation:no_comma"], "kwargs": [{"keywords": ["(a+)+$"]}, {}]}'
    "\x1fmy answer is yes, aaaaaaab",
)
_ROW = {
    "id": 1, "prompt": "1+1?", "reference": "2", "response": "#### 2", "steps": ["1+1=2\n", "#### 2"], "split": "test"
}  # fmt: skip
_MANIFEST = {
    "artefact": "training",
    "stage": "calibrate_weights",
    "stage_version": 1,
    "provenance": {"params": {}},
    "files": [
        {
            "file": "empty",
            "sha256": hashlib.sha256().hexdigest(),
            "fingerprint": "0",
            "rows": 1,
            "expected": 2,
            "rejects": {"a": 1},
        }
    ],
}
_INDEX = {
    "format": "vcrd-dataset/1",
    "folder": "data/demo-math",
    "files": {"training/part-00000.parquet": {"sha256": "0" * 64, "size": 3}},
}
_LOCK = """schema: '2.0'
stages:
  calibrate_weights:
    cmd: python -m stages.calibrate_weights
    deps: [{path: vcrd/weights.py, md5: abc, size: 1}]
    params: {params.yaml: {weights: {w_max: 4.0}, seed: 1}}
    outs: [{path: data/demo-math/training, md5: abc.dir, nfiles: 2}]
"""


def _shards() -> list[bytes]:
    """Return small Parquet files: one of the schema of problems, one with kinds of columns that it has not."""
    row = {"problem_id": "p", "domain": "math", "prompt": "x", "reference": None, "split": "test", "source": "s"}
    tables = [
        pa.Table.from_pylist([{**row, "licence": "l", "responses": ["a", "b"]}], PROBLEMS.schema),
        pa.table({"a": [1.5, None], "b": [{"c": [b"\xff"]}, None], "d": pa.array(["x", "y"]).dictionary_encode()}),
    ]
    made = []
    for table in tables:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none")  # or each change of a byte would be found by its checksum
        made.append(sink.getvalue().to_pybytes())
    return made


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_CARD = "\x1f".join(("org/name", "CC0-1.0", "a source", "org/model", "0" * 40, "key", "value", "reason"))
_HOSTILE_CARD = "\x1f".join(
    ("o/n", "a: |\n---\n", "{{ 7*7 }} | <b>", "``` `|x", "%}", "---", "\n```\n# Head\n", "<script>")
)

TARGETS = {
    "steps": Target(call=_fuzz_text.cut, seconds=2, seeds=_texts(*_SOLUTIONS, *_PROGRAMS)),
    "answers": Target(call=_fuzz_text.find_answer, seconds=1, seeds=_texts(*_SOLUTIONS)),
    "answer_comparison": Target(
        call=_fuzz_text.compare_answers,
        seconds=5,
        seeds=_texts(
            "1,000\x1f#### 1000", "\\frac{1}{2}\x1f0.5", "x^2\x1f\\boxed{x*x}", "{1, 2}\x1f\\{2,1\\}", "(A)\x1fA."
        ),
    ),
    "arithmetic": Target(call=_fuzz_text.judge_arithmetic, seconds=2, seeds=_texts(*_SOLUTIONS)),
    "expressions": Target(
        call=_fuzz_text.calculate, seconds=2, seeds=_texts("2*(3+4)/5^2 - 50%", "1 1/2 of $3,000.50", "\\frac{1}{A}^9")
    ),
    "code": Target(call=_fuzz_text.judge_code, seconds=2, seeds=_texts(*_PROGRAMS)),
    "instructions": Target(call=_fuzz_text.judge_instructions, seconds=10, seeds=_texts(*_ASKED)),
    "params": Target(
        call=_fuzz_data.read_params,
        seconds=2,
        seeds=[(ROOT / "presets/demo-math.yaml").read_bytes(), b"--set train.epochs=2\nmodels.student.name=x"],
    ),
    "sources": Target(
        call=_fuzz_data.read_sources,
        seconds=2,
        seeds=[
            b"y" + (ROOT / "data/inputs/gsm8k-test.yaml").read_bytes(),
            *(domain + _json(_ROW) for domain in (b"\0", b"\1")),
        ],
    ),
    "shards": Target(call=_fuzz_data.read_shard_file, seconds=2, seeds=_shards()),
    "manifests": Target(
        call=_fuzz_data.read_json_files, seconds=1, seeds=[b"m" + _json(_MANIFEST), b"r{}", b's{"marks": {}}']
    ),
    "hub_index": Target(call=_fuzz_data.read_index, seconds=1, seeds=[_json(_INDEX), _LOCK.encode()]),
    "teacher_signal": Target(call=_fuzz_rows.read_signal, seconds=1, seeds=[_fuzz_rows.packed_signal()]),
    "export": Target(
        call=_fuzz_rows.export_rows,
        seconds=2,
        seeds=[bytes([to, 0x10, 5, 1, how, 0, 0, 0, 0]) for to in range(4) for how in range(3)],
    ),
    "card": Target(
        call=_fuzz_rows.fill_card, seconds=2, seeds=[b"\0" + text.encode() for text in (_CARD, _HOSTILE_CARD)]
    ),
}
