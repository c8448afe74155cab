"""What each parameter means and may be: read off the docstrings and annotated ranges of the sections' dataclasses."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from pipeline.params import GlobalParams

_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false"}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_CLOSED = ("at least", "at most")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key of params.yaml.

    Attributes:
        key: With its sections, such as `proposals.prefixes.max_per_rollout`.
        allowed: What its value may be, in words.
        meaning: Its docstring, in one line.
        inner: Keys of a section.
    """

    key: str
    allowed: str
    meaning: str
    inner: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """The key without its sections."""
        return self.key.rpartition(".")[2]

    def below(self) -> Iterator[Parameter]:
        """Go through all keys of a section, at any depth, each before its own."""
        for item in self.inner:
            yield item
            yield from item.below()


def describe_parameters(sections: Mapping[str, type]) -> list[Parameter]:
    """Return every key at the top of params.yaml: what all stages read, then each section of `sections`.

    Raises:
        TypeError: A parameter has no docstring, or is of a type that has no words yet.
    """
    found = [
        Parameter(name, "section", _sentence(kind.__doc__), tuple(_fields(kind, f"{name}.")))
        for name, kind in sections.items()
    ]
    return [*_fields(GlobalParams, ""), *found]


def _fields(kind: type, place: str) -> Iterator[Parameter]:
    meanings = _docstrings(kind)
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name not in meanings:
            raise TypeError(f"{kind.__name__}.{name} has no docstring, which params.yaml is documented from")
        section = next((option for option in _options(hint) if is_dataclass(option)), None)
        inner = tuple(_fields(section, f"{place}{name}.")) if isinstance(section, type) else ()
        yield Parameter(place + name, _allowed(hint), meanings[name], inner)


@cache
def _docstrings(kind: type) -> dict[str, str]:
    """Return the text that stands below each field; Python keeps it in the source alone."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - for the type checker
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[field.target.id] = _sentence(text)
    return found


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _options(hint: Any) -> tuple[Any, ...]:
    """Return what a union is of, or the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _allowed(hint: Any) -> str:
    options = _options(hint)
    words = [_one(option) for option in options if option is not type(None)]
    return " or ".join(["null"] * (type(None) in options) + words)


def _one(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return f"{_one(arguments[0])}, {_range(arguments[1:])}"
    if origin is typing.Literal:
        return ", ".join(str(choice) for choice in arguments)
    if origin in (list, tuple):
        return f"list of {_one(arguments[0])}s"
    if origin is dict:
        return f"{_one(arguments[1])} by key"
    if is_dataclass(hint):
        return "section"
    if hint not in _WORDS:
        raise TypeError(f"no words yet for a parameter of type {hint!r}")
    return _WORDS[hint]


def _range(marks: Sequence[Any]) -> str:
    bounds = {word: f"{getattr(mark, name):g}" for mark in marks for name, word in [_BOUNDS[type(mark)]]}
    if tuple(bounds) == _CLOSED:
        return " to ".join(bounds.values())
    return " and ".join(f"{word} {bound}" for word, bound in bounds.items())
