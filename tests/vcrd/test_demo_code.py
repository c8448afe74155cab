"""`demo-code`: its problems can be solved, its tests see what is misread, and its oracle is what brute force finds."""

import json
import random
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcrd.domains import demo_code
from vcrd.domains.base import Habits, Role
from vcrd.domains.demo_code import DOMAIN, HEADER, RETURN, generate_problems, sample_solution, step_is_valid
from vcrd.domains.demo_code_search import EFFECTS, TEST_INPUTS, reaches
from vcrd.errors import ConfigError
from vcrd.records import Problem
from vcrd.steps import segment
from vcrd.verifiers.base import ABSTAIN, INVALID
from vcrd.verifiers.code import CodeVerifier

PROBLEMS = generate_problems(4, 200, seed=3)
STATEMENTS = [f" r+={value}\n" for value in EFFECTS]
UNREADABLE = " r+=p*\n"
ROLES = get_args(Role)


def steps_of(text: str) -> list[str]:
    ends = segment(text, "statement")
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def run(program: str, tests: str) -> bool:
    """Run a program of ours with its tests, here: it is no model's."""
    space: dict[str, object] = {}
    try:
        exec(program + "\n" + tests, space)  # noqa: S102 - written by the domain
    except (AssertionError, SyntaxError, TypeError):
        return False
    return True


def source_of_tests(reference: str) -> str:
    return str(json.loads(reference)["tests"])


@cache
def values(statement: str) -> tuple[int, ...]:
    """What a statement adds, found by running it."""
    space: dict[str, object] = {}
    exec(HEADER + statement + RETURN, space)  # noqa: S102 - written by the domain
    return tuple(space["f"](*inputs) for inputs in TEST_INPUTS)  # type: ignore[operator]


@cache
def programs(count: int) -> dict[tuple[int, ...], list[tuple[str, ...]]]:
    """All programs of so many statements, by what they return for the test inputs."""
    found: dict[tuple[int, ...], list[tuple[str, ...]]] = {}
    for program in product(STATEMENTS, repeat=count):
        total = tuple(map(sum, zip(*map(values, program), strict=True)))
        found.setdefault(total, []).append(program)
    return found


def solutions(prompt: str, reference: str, bound: int) -> list[tuple[str, ...]]:
    wanted = tuple(int(line.rpartition("==")[2]) for line in source_of_tests(reference).splitlines())
    return [program for count in range(1, bound + 1) for program in programs(count).get(wanted, [])]


def fewest(solved: Sequence[tuple[str, ...]], statements: Sequence[str], *, whole: bool) -> int | None:
    """How few statements of a program differ from the start of a solution, or from all of one."""
    count = len(statements)
    fitting = [item for item in solved if (len(item) == count if whole else len(item) >= count)]
    return min((sum(a != b for a, b in zip(item, statements, strict=False)) for item in fitting), default=None)


def test_prompts_are_distinct_short_and_the_same_every_time() -> None:
    prompts = [prompt for prompt, _ in PROBLEMS]
    assert len(set(prompts)) == len(prompts) == 200
    assert max(map(len, prompts)) <= 60
    assert generate_problems(4, 200, seed=3) == PROBLEMS
    assert not set(prompts) & {prompt for prompt, _ in generate_problems(4, 200, seed=4)}


@pytest.mark.parametrize("n_terms", [0, 5])
def test_more_terms_than_variables_are_refused(n_terms: int) -> None:
    with pytest.raises(ConfigError, match=f"n_terms must be from 1 to 4.*got {n_terms}"):
        generate_problems(n_terms, 1, seed=1)


@pytest.mark.parametrize("role", ROLES)
def test_texts_have_the_tokens_and_the_steps_of_the_domain(role: Role) -> None:
    tokenizer = DOMAIN.build_tokenizer()
    for prompt, solution in DOMAIN.pretraining_texts(role, 100, seed=1):
        assert tokenizer.decode(tokenizer.encode(prompt + solution)) == prompt + solution
        assert tokenizer.unk_token_id not in tokenizer.encode(prompt + solution)
        assert len(solution) <= 90
        steps = steps_of(solution)
        assert len(steps) == 6
        assert steps[0] == HEADER
        assert steps[-1] == RETURN


def test_a_solution_passes_in_every_order_and_all_of_its_steps_are_sound() -> None:
    rng = random.Random(0)
    for prompt, reference in PROBLEMS:
        solution = sample_solution(prompt, rng)
        assert run(solution, source_of_tests(reference))
        steps = steps_of(solution)
        assert all(step_is_valid(prompt, steps[:index], step) for index, step in enumerate(steps))


@pytest.mark.parametrize("role", ROLES)
def test_a_misread_word_is_rejected_by_the_tests_and_seen_by_no_rule(role: Role) -> None:
    rng, verifier = random.Random(1), CodeVerifier()
    habits = Habits(blind_spots=DOMAIN.habits[role].blind_spots)
    rejected = []
    for prompt, reference in PROBLEMS:
        literal = {f" r+={v}{demo_code._WORDS[word]}{digit}\n" for v, word, digit in demo_code._terms(prompt)}
        steps = steps_of(sample_solution(prompt, rng, habits))
        if set(steps[1:-1]) <= literal:
            continue
        rejected.append(not run("".join(steps), source_of_tests(reference)))
        asked = Problem(problem_id="", domain="code", prompt=prompt, reference=None, split="", source="", licence="")
        for index, step in enumerate(steps):
            assert verifier.verify_step(asked, "".join(steps[:index]), step).rule == ABSTAIN
    assert len(rejected) > 40
    assert sum(rejected) / len(rejected) > 0.95


def test_a_slip_is_seen_by_a_rule_at_its_step() -> None:
    prompt, reference = PROBLEMS[0]
    steps = steps_of(sample_solution(prompt, random.Random(0), Habits(slip_rate=1.0)))
    asked = Problem(problem_id="", domain="code", prompt=prompt, reference=reference, split="", source="", licence="")
    assert CodeVerifier().verify_step(asked, steps[0], steps[1]).rule == INVALID
    assert not step_is_valid(prompt, steps[:1], steps[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_oracle_is_what_brute_force_over_all_programs_finds(data: st.DataObject) -> None:
    prompt, reference = data.draw(st.sampled_from(generate_problems(2, 40, seed=data.draw(st.integers(0, 3)))))
    solved = solutions(prompt, reference, 2)
    assert solved
    literal = steps_of(sample_solution(prompt, random.Random(0)))[1:-1]
    statement = st.sampled_from([*STATEMENTS, *literal * 20, UNREADABLE])
    before = data.draw(st.lists(statement, max_size=3))
    step = data.draw(statement | st.just(RETURN))
    now = fewest(solved, before, whole=False)
    after = fewest(solved, before if step == RETURN else [*before, step], whole=step == RETURN)
    expected = now is not None and now == after and step != UNREADABLE
    assert step_is_valid(prompt, [HEADER, *before], step) is expected


def test_behind_a_lost_goal_a_step_is_sound_where_it_adds_no_mistake() -> None:
    prompt = "mul p3,mod q5,xor s9;f(1,14,4,19)=20"
    lost = [HEADER, " r+=p//3\n"]
    assert not step_is_valid(prompt, lost[:1], lost[1])
    assert step_is_valid(prompt, lost, " r+=q%5\n")
    assert not step_is_valid(prompt, lost, " r+=q//5\n")
    rest = [*lost, " r+=q%5\n", " r+=s^9\n"]
    assert step_is_valid(prompt, rest, RETURN)
    assert not step_is_valid(prompt, rest[:-1], RETURN)
    assert not step_is_valid(prompt, rest, " r+=p*3\n")
    assert not step_is_valid(prompt, [*rest, RETURN], RETURN)


def test_behind_a_mistake_every_term_is_sound_but_once() -> None:
    prompt = "mul p3,mod q5,xor s9;f(1,14,4,19)=20"
    lost = [HEADER, UNREADABLE, " r+=q%5\n"]
    assert not step_is_valid(prompt, lost, " r+=q%5\n")
    assert step_is_valid(prompt, lost, " r+=p*3\n")


def test_another_way_to_write_a_value_is_sound() -> None:
    prompt = "mod p4,mul q3;f(1,14,4,19)=43"
    assert step_is_valid(prompt, [HEADER], " r+=p&3\n")
    assert step_is_valid(prompt, [HEADER, " r+=p&3\n"], " r+=q*3\n")
    assert not step_is_valid(prompt, [HEADER, " r+=p&3\n"], " r+=p%4\n")
    assert step_is_valid("add p3,add q5;f(1,14,4,19)=23", [HEADER, " r+=q+3\n"], " r+=p+5\n")


@given(st.lists(st.sampled_from(sorted(EFFECTS)), max_size=4))
def test_any_sum_of_statements_is_reached_by_as_many(chosen: list[str]) -> None:
    goal = sum(EFFECTS[value] for value in chosen)
    assert reaches(goal, 0, len(chosen))
    assert reaches(goal, len(chosen), len(chosen))
