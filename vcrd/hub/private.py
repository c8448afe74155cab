"""What a card must not tell of whoever made the data: paths of their machine, with their name in it, and secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LEFT_OUT = "(left out)"
# Two parts at least, as a prompt may begin with a stroke: "/no_think".
_ABSOLUTE = re.compile(r"(?:file:/*)?(?:~[\w.-]*/|/[^/\n]+/|[A-Za-z]:[\\/]|\\\\[^\n])[^\n]*")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\+Users)[/\\]+[^/\\\s\"']+|/root(?=/)")
_SECRET_NAME = re.compile(
    r"api_?key|secret|password|passwd|credential|authorization|^token$|(?:hf|auth|access|api|bearer)_?token",
    re.IGNORECASE,
)
_SECRET = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{16})\b")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def without_private(value: Any, name: str = "") -> Any:
    """Return parameters with the last part of absolute paths in their place, and without what may be a secret.

    >>> without_private({"path": "/home/ada/sets/gsm8k.jsonl", "api_key": "x", "template": "{prompt} /no_think"})
    {'path': 'gsm8k.jsonl', 'api_key': '(left out)', 'template': '{prompt} /no_think'}
    >>> without_private("see ~/.cache of /home/ada/notes, https://ada:pw@host/v1")
    'see ~/.cache of ~/notes, https://host/v1'
    """
    if isinstance(value, Mapping):
        return {key: without_private(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_private(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if value and _SECRET_NAME.search(name):
        return LEFT_OUT
    if _ABSOLUTE.fullmatch(value):
        value = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return _SECRET.sub(LEFT_OUT, _LOGIN.sub("", _HOME.sub("~", value)))


def tells_home(text: str) -> bool:
    """Tell whether a text has the folder of somebody's home in it."""
    return _HOME.search(text) is not None
