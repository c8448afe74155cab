"""Every parser takes hostile input: only the kinds of error that the design has, within its bound."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from benchmarks._fuzz_edits import DELETED, HOSTILE, with_value
from benchmarks._fuzz_targets import TARGETS, Slow, Target, attempt, warm_up
from benchmarks.fuzz import fuzz

# A comparison asks another process, a card is a whole page.
EXAMPLES = {"answer_comparison": 25, "card": 15, "params": 40, "arithmetic": 60, "expressions": 60}
MANY = 120
PIECES = [
    b"{",
    b"}",
    b"[",
    b"\n\n",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"```",
    b"$$",
    b"=",
    b"*" * 50,
    b"9" * 400,
    b"&a [*a]",
]

edits = st.one_of(
    st.tuples(st.integers(0, 2**16), st.integers(0, 8), st.binary(max_size=8) | st.sampled_from(PIECES)),
    st.tuples(st.integers(0, 2**16), st.just(None), st.sampled_from([*HOSTILE, DELETED])),
)


def edited(data: bytes, changes: list) -> bytes:
    """Put bytes in the place of some at an offset, or a value in the place of one."""
    for place, count, new in changes:
        if count is None:
            data = with_value(data, place, new)
        else:
            at = place % (len(data) + 1)
            data = data[:at] + new + data[at + count :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_only_what_it_may_and_in_time(name: str) -> None:
    target = TARGETS[name]
    warm_up(target)

    @seed(8)
    @settings(max_examples=EXAMPLES.get(name, MANY), database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(target.seeds), st.lists(edits, min_size=1, max_size=4))
    def fuzzed(start: bytes, changes: list) -> None:
        attempt(target, edited(start, changes))

    fuzzed()


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"manifests"}))
def test_what_a_fuzzer_starts_from_is_taken(name: str) -> None:
    """Else it would fuzz nothing but the first check."""
    assert any(attempt(TARGETS[name], data) for data in TARGETS[name].seeds)


def test_a_manifest_that_a_fuzzer_starts_from_is_taken() -> None:
    assert attempt(TARGETS["manifests"], TARGETS["manifests"].seeds[0])


def test_a_crash_and_a_call_over_its_bound_are_findings() -> None:
    with pytest.raises(ZeroDivisionError):
        attempt(Target(call=lambda data: 1 // len(data), seconds=1, seeds=[]), b"")
    with pytest.raises(Slow):
        attempt(Target(call=lambda data: sum(range(10**6)), seconds=1e-6, seeds=[]), b"")


def test_atheris_runs_a_parser_and_tells_what_came_of_it() -> None:
    found = fuzz("manifests", 300, 20.0)
    assert found.told["executions"] >= 300 > found.told["taken"]
    assert not found.findings
