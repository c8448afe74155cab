"""Code: unit tests in the sandbox for whole programs, syntax and names for programs that are still being written."""

from __future__ import annotations

import ast
import builtins
import codeop
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from vcrd.errors import SchemaError
from vcrd.io.sandbox import Program, ProgramResult, Sandbox
from vcrd.records import Problem
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict, Verifier
from vcrd.verifiers.fences import SURELY_CODE, Block, fenced_blocks

_ASSIGNS = re.compile(r"[\w.]+\s*=(?!=)")
_LOOKS_LIKE_CODE = re.compile(
    r"\s*(?:@\w|\"|'|\w+\s*[=(\[.+*/-]|(?:def|class|import|from|if|for|while|with|try|return|async|lambda|raise)\b)"
)
# Every step parses all that comes before it: bounds keep their sum to seconds.
_MOST_CHARACTERS, _MOST_LINES = 20_000, 200
_STATEMENT = re.compile(r"^[^\s#)\]}]", re.MULTILINE)
_TRIES = 8
# A later line may bind the name, or go on behind a backslash.
_REPAIRABLE = ("no binding for nonlocal", "unexpected EOF")
_DEFINITIONS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_GIVEN = frozenset([*dir(builtins), "__name__", "__file__", "__doc__", "__builtins__", "__annotations__"])
_NOT_ASKED = Verdict(ABSTAIN, "no reference")
_BINDING_CALLS = frozenset({"exec", "globals", "locals", "vars", "setattr"})


@dataclass(frozen=True, slots=True)
class CodeVerifier(Verifier):
    """Judges by a problem's reference: `{"tests": Python source with its calls, "entry_point": a name or null}`.

    What `verify_answers` has run, with equal tests, it does not run again.
    """

    sandbox: Sandbox = field(default_factory=Sandbox)
    _ran: dict[Program, ProgramResult] = field(default_factory=dict, init=False, repr=False, compare=False)

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Run the tests on a whole program; where there are code fences, the program is within one.

        Raises:
            ConfigError: There is no sandbox on this machine that holds.
            SchemaError: The reference is no such object.
        """
        if problem.reference is None:
            return _NOT_ASKED
        return _verdict(self.sandbox.run(read_program(problem.reference, text)))

    def verify_answers(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        """Run many programs side by side, and equal ones once."""
        programs = [
            None if problem.reference is None else read_program(problem.reference, text)
            for problem, text in zip(problems, texts, strict=True)
        ]
        wanted = dict.fromkeys(program for program in programs if program is not None and program not in self._ran)
        if wanted:
            self._ran.update(zip(wanted, self.sandbox.run_many(list(wanted)), strict=True))
        return [_NOT_ASKED if program is None else _verdict(self._ran[program]) for program in programs]

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Veto a step after which no continuation is a program that runs; behind such a step none is to blame."""
        if len(prefix) + len(step) > _MOST_CHARACTERS or prefix.count("\n") + step.count("\n") > _MOST_LINES:
            return Verdict(ABSTAIN, "too long to judge by steps")
        if broken_program(prefix):
            return Verdict(ABSTAIN, "the program was broken before this step")
        reason = broken_program(prefix + step)
        return Verdict(INVALID, reason) if reason else Verdict(ABSTAIN, "nothing is wrong so far")


def _verdict(result: ProgramResult) -> Verdict:
    return Verdict(VALID if result.passed else INVALID, result.reason)


def read_program(reference: str, text: str) -> Program:
    """Bring a response and its problem's tests together."""
    try:
        given = json.loads(reference)
        tests, entry_point = given["tests"], given.get("entry_point")
        if not isinstance(tests, str) or not isinstance(entry_point, str | None):
            raise TypeError("no strings")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = '{"tests": Python source, "entry_point": a name or null}'
        raise SchemaError(f"expected {expected}, got {reference[:60]!r}", column="reference") from error
    return Program(code=extract_code(text, entry_point), tests=tests, entry_point=entry_point)


def extract_code(text: str, entry_point: str | None = None) -> str:
    r"""Return the program in a response: the text itself where it has no code fences.

    With an entry point it is the last block that defines it, behind the earlier Python blocks that only define things;
    without one, or where no block defines it, all Python blocks.

    >>> print(extract_code("Here:\n```python\nx = 1\n```\nDone."), end="")
    x = 1
    """
    text = text.removeprefix("\ufeff")
    blocks = list(fenced_blocks(text))
    if not blocks:
        return text
    last = _defining(blocks, entry_point) if entry_point else None
    if last is not None:
        earlier = [block.code for block in blocks[:last] if block.is_python and _only_defines(block.code)]
        return _joined([*earlier, blocks[last].code])
    whole = [block.code for block in blocks if block.is_python] or [block.code for block in blocks if not block.tag]
    return _joined([code for code in whole if _parsed(code)] or [whole[-1] if whole else blocks[-1].code])


def _defining(blocks: Sequence[Block], name: str) -> int | None:
    """Find the last block that defines a name; one in another language only where there is no other."""
    defines = re.compile(rf"^(?:def|class|async def)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", re.MULTILINE)
    found = [index for index, block in enumerate(blocks) if defines.search(block.code)]
    return max(found, key=lambda index: (blocks[index].is_python or not blocks[index].tag, index), default=None)


def _only_defines(code: str) -> bool:
    """Whether running a block can do no more than bind names, from names that it has."""
    statements = _parsed(code)
    return all(
        isinstance(statement, _DEFINITIONS)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in statements
    ) and not _undefined(statements, set())


def _joined(codes: Sequence[str]) -> str:
    return "".join(code if code.endswith("\n") else f"{code}\n" for code in codes[:-1]) + codes[-1]


def _parsed(code: str) -> list[ast.stmt]:
    """Parse a whole program; one that does not parse has no statements."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return []


@lru_cache(maxsize=256)
def broken_program(text: str) -> str:
    r"""Return why no continuation of a text is a program that runs; empty where one may be.

    Only whole lines count. Names go from one Python block on to the next; other blocks are not judged, nor is a text
    without code fences that does not look like code.

    >>> broken_program("def f(x):\n    return )\n")
    "unmatched ')' in line 2"
    >>> broken_program("def f(x):\n    return (x +\n")
    ''
    """
    text = text.removeprefix("\ufeff")
    blocks = list(fenced_blocks(text))
    if not blocks:
        return _broken(text, set()) if _begins_as_code(text) else ""
    bound: set[str] = set()
    for block in blocks:
        if block.is_python:
            if reason := _broken(block.code, bound):
                return reason
        elif not block.tag:
            bound.update(name for statement in _parsed(block.code) for name in _bindings(statement))
    return ""


def _begins_as_code(text: str) -> bool:
    """Tell a program from prose (`1. First`, `Note: it`, `for each item`) by the first line that is no comment."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if SURELY_CODE.match(first) or _ASSIGNS.match(first):
        return True
    return bool(_LOOKS_LIKE_CODE.match(first)) and not _broken(f"{first}\n", {"*"})


def _broken(code: str, bound: set[str]) -> str:
    """Judge a program that begins with some names bound, and add those that it binds."""
    whole = code[: code.rfind("\n") + 1]
    if not whole.strip():
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            codeop.compile_command(whole, "<step>", "exec")
            return _undefined(_whole_statements(whole), bound)
        except SyntaxError as error:
            message = error.msg or "syntax error"
            return "" if message.startswith(_REPAIRABLE) else f"{message} in line {error.lineno}"
        except ValueError as error:
            return str(error)
        except (MemoryError, RecursionError, OverflowError):
            return ""


def _whole_statements(code: str) -> list[ast.stmt]:
    """Parse what stands before an unfinished statement, which begins at the start of one of the last lines."""
    ends = [len(code), *(start.start() for start in reversed(list(_STATEMENT.finditer(code))))]
    for end in ends[: 1 + _TRIES]:
        try:
            return ast.parse(code[:end]).body
        except SyntaxError:
            continue
    return []


def _undefined(statements: Sequence[ast.stmt], bound: set[str]) -> str:
    """Find a plain top-level statement that reads a name which nothing before it binds, in any scope."""
    for statement in statements:
        bound.update(_bindings(statement))
        if not isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign):
            continue
        for node in ast.walk(statement):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or "*" in bound:
                continue
            if node.id not in bound and node.id not in _GIVEN:
                return f"{node.id!r} is not defined in line {node.lineno}"
            if node.id in _BINDING_CALLS:
                bound.add("*")
    return ""


def _bindings(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, _SCOPES):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
