"""From a problem to the ids a model continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vcrd.errors import ConfigError, first_line
from vcrd.records import Problem

THINK_OPENING = "<think>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptParams:
    """How a problem is put to the student and, in the same ids, to the teacher."""

    style: Literal["plain", "chat"]
    """plain: `template` alone; chat: `template` as the user's turn in the tokenizer's chat template."""
    template: str
    """Text with `{prompt}` where the problem goes."""
    system: str | None
    """System turn (chat only)."""
    think: bool
    """Open the answer with `<think>`; what the model then writes is kept as it wrote it, thoughts included."""


def prompt_ids(problem: Problem, tokenizer: Any, params: PromptParams) -> list[int]:
    """Return the ids of a problem's prompt.

    Raises:
        ConfigError: The tokenizer has no chat template for `chat`, or `template` has no place for the prompt.
    """
    if "{prompt}" not in params.template:
        raise ConfigError(f"prompts.template must contain {{prompt}}, got {params.template!r}")
    text = params.template.replace("{prompt}", problem.prompt)
    if params.style == "chat":
        if not tokenizer.chat_template:
            raise ConfigError("prompts.style is chat, but the tokenizer has no chat template; set it to plain")
        turns = [{"role": "system", "content": params.system}] if params.system else []
        turns.append({"role": "user", "content": text})
        text = _rendered(tokenizer, turns)
    if params.think:
        text += THINK_OPENING
    return list(tokenizer.encode(text, add_special_tokens=params.style == "plain"))


def _rendered(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """Render turns by the model's own template, which transformers keeps from everything but these turns."""
    import jinja2

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except jinja2.TemplateError as error:
        raise ConfigError(
            f"the tokenizer's chat template cannot be rendered ({first_line(error)}); set prompts.style to plain"
        ) from error
