"""Any rows become problems or rejects; ids and splits depend on content and seed alone."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vcrd.io.sources import SourceRow
from vcrd.problems import SPLITS, ColumnParams, ProblemParams, SplitParams, make_problems
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

COLUMNS = ColumnParams(prompt="q", reference="a", split="s", responses="r")
PARAMS = ProblemParams(
    path="x",
    domain="math",
    licence="MIT",
    columns=COLUMNS,
    limit=None,
    splits=SplitParams(train=4, prm=2, fit=1, judge=1, test=2),
)
VALUE = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2)
ROW = st.none() | st.fixed_dictionaries({}, optional=dict.fromkeys("qasr", VALUE))


def rows(values) -> list[SourceRow]:
    return [SourceRow(f"line {number}", item) for number, item in enumerate(values, start=1)]


@given(st.lists(ROW, max_size=12))
def test_every_row_is_a_problem_or_a_reject(values: list) -> None:
    problems, rejects = make_problems(rows(values), PARAMS, "x", seed=1)
    assert len(problems) + len(rejects) == len(values)
    assert len({item.problem_id for item in problems}) == len(problems)
    assert all(item.split in SPLITS for item in problems)


def test_order_changes_no_id_and_no_split() -> None:
    values = [{"q": f"What is {n}+{n}?", "a": 2 * n} for n in range(50)]
    problems, _ = make_problems(rows(values), PARAMS, "x", seed=1)
    shuffled, _ = make_problems(rows(values[::-1]), PARAMS, "x", seed=1)
    assert problems == shuffled
    counts = {name: sum(item.split == name for item in problems) for name in SPLITS}
    assert counts == {"train": 20, "prm": 10, "fit": 5, "judge": 5, "test": 10}
    other, _ = make_problems(rows(values), PARAMS, "x", seed=2)
    assert [item.problem_id for item in other] == [item.problem_id for item in problems]
    assert [item.split for item in other] != [item.split for item in problems]


def test_a_split_of_its_own_is_kept() -> None:
    values = [{"q": "a", "a": "1", "s": "test"}, {"q": "b", "a": "1", "s": "dev"}]
    problems, rejects = make_problems(rows(values), PARAMS, "x", seed=1)
    assert [item.split for item in problems] == ["test"]
    assert [item.reason for item in rejects] == ["bad_split"]


def test_tests_and_constraints_are_references_that_the_domains_verifier_reads() -> None:
    verifier = DomainVerifier(VerifierParams(modulus=None))
    tests = {"tests": "assert f() == 1", "entry_point": None}
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    for domain, reference, right, wrong in (
        ("code", tests, "def f(): return 1", "def f(): return 2"),
        ("instructions", asked, "No comma.", "One, comma."),
    ):
        params = replace(PARAMS, domain=domain)
        given = [{"q": "a", "a": reference}, {"q": "b", "a": json.dumps(reference)}, {"q": "c", "a": "text"}]
        problems, rejects = make_problems(rows(given), params, "x", seed=1)
        assert [item.reason for item in rejects] == ["bad_reference"]
        assert "expected {" in rejects[0].message
        for problem in problems:
            assert verifier.verify_answer(problem, right).rule == 1
            assert verifier.verify_answer(problem, wrong).rule == -1


def test_columns_are_combined_in_texts_and_by_key() -> None:
    columns = ColumnParams(prompt="{q}\nPass {t[0]}", reference={"tests": "{setup}\n{t}"}, split=None, responses=None)
    params = replace(PARAMS, domain="code", columns=columns)
    values = [
        {"q": "Double it.", "t": ["assert f(1) == 2", "assert f(2) == 4"], "setup": "import re"},
        {"q": "Nothing to pass.", "t": [], "setup": None},
        {"q": "No tests."},
    ]
    problems, rejects = make_problems(rows(values), params, "x", seed=1)
    assert [item.prompt for item in problems] == ["Double it.\nPass assert f(1) == 2"]
    assert json.loads(problems[0].reference or "") == {"tests": "import re\nassert f(1) == 2\nassert f(2) == 4"}
    assert [item.reason for item in rejects] == ["no_prompt", "no_prompt"]
    by_key = replace(columns, prompt="q", reference={"instruction_id_list": "ids", "kwargs": "kwargs"})
    given = [{"q": "No comma.", "ids": ["punctuation:no_comma"], "kwargs": [{}]}, {"q": "No ids.", "kwargs": [{}]}]
    problems, rejects = make_problems(rows(given), replace(params, domain="instructions", columns=by_key), "x", seed=1)
    assert json.loads(problems[0].reference or "") == {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    assert [item.reason for item in rejects] == ["bad_reference"]
