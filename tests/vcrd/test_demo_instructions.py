"""The oracle of demo-instructions agrees with trying every continuation; its problems and texts are what they say."""

from __future__ import annotations

import json
import random
import re
from itertools import chain, combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vcrd.factories import problem
from vcrd.domains import oracle_for
from vcrd.domains.base import Role
from vcrd.domains.demo_instructions import DOMAIN, generate_problems, reference, sample_text
from vcrd.domains.instruction_goals import FILLERS, WORDS, Goal, most_followed, read_goal, step_is_valid, write_goal
from vcrd.records import Problem
from vcrd.steps import segment
from vcrd.tokenization import load_tokenizer, tokenizer_fingerprint
from vcrd.verifiers.instruction_options import read_options
from vcrd.verifiers.instructions import KINDS, InstructionsVerifier

LONGEST = 4
Lines = tuple[str, ...]


@st.composite
def small_goals(draw: st.DrawFn) -> Goal:
    """Few words are named, so that every text can be tried."""
    named = draw(st.sets(st.sampled_from(["b", "m", "x"]), max_size=2))
    has = ("k", "m") if "m" in named else ("k",)
    return Goal(
        sentences=draw(st.integers(1, 3)),
        words=draw(st.integers(1, 4)),
        start="b" if "b" in named else None,
        has=has,
        order=draw(st.sampled_from([(), has, has[::-1]])) if len(has) == 2 else (),
        excludes="x" if "x" in named else None,
    )


def texts(goal: Goal) -> dict[Lines, tuple[int, int]]:
    """Every text of few words, finished or not, and what it follows as it stands: lengths, and the rest."""
    named = [word for word in (goal.start, goal.excludes) if word]
    asked = json.loads(reference(goal))
    rules = [
        (name.startswith("length"), KINDS[name].judge, read_options(KINDS[name].options, options))
        for name, options in zip(asked["instruction_id_list"], asked["kwargs"], strict=True)
    ]
    found = {(): (0, 0)}
    for length in range(1, LONGEST + 1):
        for words in product([*goal.has, *named, "y"], repeat=length):
            for cuts in chain.from_iterable(combinations(range(1, length), count) for count in range(length)):
                spans = zip([0, *cuts], [*cuts, length], strict=True)
                lines = tuple(" ".join(words[begin:end]) + "!\n" for begin, end in spans)
                followed = [(is_length, judge("".join(lines), **options)[0]) for is_length, judge, options in rules]
                counts = followed.count((True, True)), followed.count((False, True))
                found[lines] = found[*lines[:-1], lines[-1][:-1]] = counts
    return found


def words_in(lines: Lines) -> int:
    return sum(len(line.split()) for line in lines)


@settings(max_examples=12, deadline=None)
@given(goal=small_goals())
def test_the_oracle_agrees_with_trying_every_continuation(goal: Goal) -> None:
    followed = texts(goal)
    best = dict(followed)
    for lines in sorted(followed, key=len, reverse=True):
        if lines:
            best[lines[:-1]] = max(best[lines[:-1]], best[lines])
    prompt = write_goal(goal)
    wanted = len(goal.has) + (goal.start is not None)
    for lines in followed:
        # Longer texts are not tried: here they have room for all that a continuation could want.
        if words_in(lines) + max(wanted, goal.sentences) > LONGEST:
            continue
        assert most_followed(goal, lines) == best[lines], lines
        if lines and not (lines[:-1] and not lines[-2].endswith("\n")):
            assert step_is_valid(prompt, lines[:-1], lines[-1]) == (best[lines] == best[lines[:-1]]), lines


def as_problem(prompt: str, asked: str) -> Problem:
    return problem(prompt=prompt, reference=asked, domain="instructions", source="demo-instructions")


def steps_of(text: str) -> list[str]:
    ends = segment(text, "sentence")
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def outcome(prompt: str, text: str) -> int:
    return InstructionsVerifier().verify_answer(as_problem(prompt, reference(read_goal(prompt))), text).rule


PROBLEMS = generate_problems(4, 150, 5)


def test_problems_are_distinct_and_made_again_from_their_seed() -> None:
    assert len({prompt for prompt, _ in PROBLEMS}) == len(PROBLEMS)
    assert generate_problems(4, 20, 5) == PROBLEMS[:20]
    assert generate_problems(4, 20, 6) != PROBLEMS[:20]
    for prompt, asked in PROBLEMS:
        assert len(prompt) < 30
        assert write_goal(read_goal(prompt)) == prompt
        assert reference(read_goal(prompt)) == asked


def test_every_problem_has_a_solution_that_is_sound_step_by_step() -> None:
    rng = random.Random(1)
    for prompt, _ in PROBLEMS:
        text = sample_text(prompt, rng)
        steps = steps_of(text)
        assert len(text) < 90
        assert outcome(prompt, text) == 1
        assert len(steps) == read_goal(prompt).sentences
        assert all(step_is_valid(prompt, steps[:index], step) for index, step in enumerate(steps))


def test_an_instruction_asks_for_the_same_text_in_the_prompt_and_in_the_reference() -> None:
    for prompt, asked in PROBLEMS[:40]:
        goal, text = read_goal(prompt), sample_text(prompt, random.Random(2))
        n_others = len(json.loads(asked)["kwargs"]) - 3
        assert most_followed(goal, []) == most_followed(goal, steps_of(text)) == (3, n_others)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_what_a_role_is_blind_to_loses_the_goal_where_there_is_no_room(role: Role) -> None:
    spots = DOMAIN.habits[role].blind_spots
    wrong = 0
    for prompt, text in DOMAIN.pretraining_texts(role, 300, 3):
        prompt, goal = prompt.rstrip("\n"), read_goal(prompt.rstrip("\n"))
        steps = steps_of(text)
        sound = [step_is_valid(prompt, steps[:index], step) for index, step in enumerate(steps)]
        assert (outcome(prompt, text) == 1) == all(sound), text
        wrong += not all(sound)
        named = {goal.start, *goal.has}
        missing = {word for word in named if word and word not in re.findall(r"\w+", text)}
        if missing & set(spots):
            assert not all(sound)
    assert 0.3 < wrong / 300 < 0.7


def test_the_roles_are_blind_to_different_words() -> None:
    teacher, student = (set(DOMAIN.habits[role].blind_spots) for role in ("teacher", "student"))
    assert teacher
    assert student
    assert not teacher & student
    assert teacher | student <= set(WORDS)
    assert not set(FILLERS) & set(WORDS)


def test_rules_see_few_of_the_mistakes_where_they_happen() -> None:
    verifier, seen, wrong = InstructionsVerifier(), 0, 0
    for prompt, text in DOMAIN.pretraining_texts("student", 300, 4):
        prompt, steps = prompt.rstrip("\n"), steps_of(text)
        asked = as_problem(prompt, reference(read_goal(prompt)))
        lost = False
        for index, step in enumerate(steps):
            vetoed = verifier.verify_step(asked, "".join(steps[:index]), step).rule == -1
            sound = step_is_valid(prompt, steps[:index], step)
            # A word that there is no room for is lost before a rule can prove that it is.
            assert not vetoed or lost or not sound, (prompt, text)
            wrong, seen, lost = wrong + (not sound), seen + (vetoed and not sound), lost or not sound
    assert 0 < seen < 0.35 * wrong


GOAL = "3 4 ^B K M L K<M -X"


@pytest.mark.parametrize(
    ("prefix", "step", "sound"),
    [
        ([], "b!\n", True),
        ([], "b k l!\n", False),
        ([], "k!\n", False),
        ([], "b m!\n", False),
        (["b k!\n"], "m!\n", True),
        (["b k!\n"], "y!\n", False),
        (["b k!\n"], "m l!\n", False),
        (["b k!\n", "m!\n"], "l!", True),
        (["b k!\n", "m!\n"], "l!\n", True),
        (["b k!\n"], "m l!", False),
        (["b k!\n", "m!\n"], "L!", False),
        (["b k!\n", "m!\n"], "l", False),
        (["b k!\n", "m!\n", "l!"], "l!", False),
    ],
)
def test_a_step_is_sound_while_the_goal_can_be_reached(prefix: list[str], step: str, sound: bool) -> None:
    assert step_is_valid(GOAL, prefix, step) == sound


@pytest.mark.parametrize(
    ("prefix", "step", "sound"),
    [
        (["b c!\n"], "k!\n", True),
        (["b c!\n"], "l!\n", False),
        (["b c!\n"], "y!\n", False),
        (["b c!\n", "k!\n"], "l!", False),
        (["b c!\n", "k!\n"], "m!", True),
        (["l k!\n"], "m!\n", True),
        (["b x!\n"], "k m!\n", False),
        (["b k m!\n"], "l!\n", True),
    ],
)
def test_after_a_lost_goal_a_step_is_sound_that_loses_nothing_more(prefix: list[str], step: str, sound: bool) -> None:
    lines = [*prefix[:1], step]
    assert not step_is_valid(GOAL, lines[:0], lines[0])
    assert step_is_valid(GOAL, prefix, step) == sound


def test_the_shipped_models_read_and_write_every_character() -> None:
    folder = Path(__file__).parents[2] / "data/models/demo-instructions"
    made = DOMAIN.build_tokenizer()
    for role in ("student", "teacher"):
        shipped = load_tokenizer(str(folder / role))
        assert tokenizer_fingerprint(shipped) == tokenizer_fingerprint(made)
    for prompt, text in DOMAIN.pretraining_texts("student", 50, 6):
        ids = made.encode(prompt + text)
        assert len(ids) == len(prompt + text)
        assert made.unk_token_id not in ids
        assert made.decode(ids) == prompt + text


def test_the_run_finds_the_oracle_by_the_name_of_the_source() -> None:
    assert oracle_for("demo-instructions") is step_is_valid


def test_a_prompt_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a prompt of demo-instructions, got 'a=1 '"):
        read_goal("a=1 ")
