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
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict

_FENCE = re.compile(r"^[ \t]*```([^\n`]*)\n", re.MULTILINE)
_LOOKS_LIKE_CODE = re.compile(
    r"\s*(?:@\w|#|\"|'|\w+\s*[=(\[.:+*/-]|(?:def|class|import|from|if|for|while|with|try|return|async|lambda|raise)\b)"
)
_LONGEST = 100_000
# A later line may bind the name, or go on behind a backslash.
_REPAIRABLE = ("no binding for nonlocal", "unexpected EOF")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_GIVEN = frozenset([*dir(builtins), "__name__", "__file__", "__doc__", "__builtins__", "__annotations__"])


@dataclass(frozen=True, slots=True)
class CodeVerifier:
    """Judges by a problem's reference: `{"tests": Python source with its calls, "entry_point": a name or null}`."""

    sandbox: Sandbox = field(default_factory=Sandbox)

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Run the tests on a whole program; where there are code fences, the program is within one.

        Raises:
            ConfigError: There is no sandbox on this machine that holds.
            SchemaError: The reference is no such object.
        """
        if problem.reference is None:
            return Verdict(ABSTAIN, "no reference")
        return _verdict(self.sandbox.run(read_program(problem.reference, text)))

    def verify_answers(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        """Run many programs side by side."""
        verdicts = [Verdict(ABSTAIN, "no reference")] * len(problems)
        asked = [index for index, problem in enumerate(problems) if problem.reference is not None]
        programs = [read_program(problems[index].reference or "", texts[index]) for index in asked]
        for index, result in zip(asked, self.sandbox.run_many(programs), strict=True):
            verdicts[index] = _verdict(result)
        return verdicts

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Veto a step after which no continuation is a program that runs; behind such a step none is to blame."""
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
    r"""Return the program in a response: the last fenced block that defines the entry point, else the last, else all.

    >>> print(extract_code("Here:\n```python\nx = 1\n```\nDone."), end="")
    x = 1
    """
    blocks = [block for block, _ in _fenced(text)]
    if not blocks:
        return text
    name = re.escape(entry_point or "")
    defining = [
        block for block in blocks if re.search(rf"^(?:def|class|async def)\s+{name}\b|^{name}\s*=", block, re.M)
    ]
    return (defining if entry_point and defining else blocks)[-1]


def _fenced(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the blocks between code fences, and whether each is closed; the last one may be open."""
    start: int | None = None
    for fence in _FENCE.finditer(text if text.endswith("\n") else f"{text}\n"):
        if start is None:
            start = fence.end()
        else:
            yield text[start : fence.start()], True
            start = None
    if start is not None:
        yield text[start:], False


@lru_cache(maxsize=256)
def broken_program(text: str) -> str:
    r"""Return why no continuation of a text is a program that runs; empty where one may be.

    Only whole lines count. Outside of code fences a text that does not look like code is not judged.

    >>> broken_program("def f(x):\n    return )\n")
    "unmatched ')' in line 2"
    >>> broken_program("def f(x):\n    return (x +\n")
    ''
    """
    blocks = list(_fenced(text))
    if blocks:
        return next(filter(None, (_broken(block) for block, _ in blocks)), "")
    first = text.lstrip("\n").partition("\n")[0]
    return _broken(text) if _LOOKS_LIKE_CODE.match(first) else ""


def _broken(code: str) -> str:
    whole = code[: code.rfind("\n") + 1]
    if not whole.strip() or len(whole) > _LONGEST:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            codeop.compile_command(whole, "<step>", "exec")
            return _undefined(_whole_statements(whole))
        except SyntaxError as error:
            message = error.msg or "syntax error"
            return "" if message.startswith(_REPAIRABLE) else f"{message} in line {error.lineno}"
        except ValueError as error:
            return str(error)
        except (MemoryError, RecursionError, OverflowError):
            return ""


def _whole_statements(code: str) -> list[ast.stmt]:
    """Parse as many lines as make whole statements."""
    lines = code.splitlines(keepends=True)
    for count in range(len(lines), max(len(lines) - 200, 0), -1):
        try:
            return ast.parse("".join(lines[:count])).body
        except SyntaxError:
            continue
    return []


def _undefined(statements: Sequence[ast.stmt]) -> str:
    """Find a plain top-level statement that reads a name which nothing before it binds, in any scope."""
    bound: set[str] = set()
    for statement in statements:
        bound |= set(_bindings(statement))
        if "*" in bound:
            return ""
        if isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in bound | _GIVEN:
                    return f"{node.id!r} is not defined in line {node.lineno}"
                if isinstance(node, ast.Name) and node.id in ("exec", "globals", "locals", "vars", "setattr"):
                    return ""
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
