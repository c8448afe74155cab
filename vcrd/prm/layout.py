"""How a problem and its steps are laid out for a process reward model, and where each step's score is read.

Sources: the model cards of Qwen2.5-Math-PRM and math-shepherd-mistral-7b-prm; RLHFlow/RLHF-Reward-Modeling,
`math-rm/prm_evaluate.py`; SkyworkAI/skywork-o1-prm-inference, `prepare_input`. The judge's question is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vcrd.errors import ConfigError
from vcrd.prm.spec import PrmSpec
from vcrd.prm.strings import Escape, escaper, id_behind, one_id
from vcrd.requests import TokenHead

_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
_JUDGE = """\
Problem:
{problem}

Solution so far:
{steps}

Is step {last}, the last one above, correct? Judge this step alone, and answer with {positive} or {negative}."""
_PLAIN_ANSWER = "\nAnswer:"


@dataclass(frozen=True, slots=True)
class Laid:
    """Token ids, and the positions where the scores of the steps are read, in their order."""

    token_ids: list[int]
    positions: list[int]


class StepLayout:
    """Lays problems and steps out as text for one model; `token_classification` has no text, it reads the run's ids.

    Attributes:
        head: What the engine reads at the positions; its last class is the sound one.
        per_step: Whether a pass scores only the last of the steps.
    """

    def __init__(self, spec: PrmSpec, tokenizer: Any) -> None:
        """Look the model's strings up.

        Raises:
            ConfigError: One of them is not a single token; or the layout is a chat and the tokenizer has no template,
                or one that writes an earlier turn anew.
        """
        self._family, self._marks, self._tokenizer = spec.family, spec.marks, tokenizer
        if spec.family in ("qwen_math_prm", "rlhflow") and not tokenizer.chat_template:
            raise ConfigError(f"prm.family {spec.family} is laid out as a chat, but the tokenizer has no chat template")
        self.per_step = spec.family == "generative"
        self._tag_id = self._find_tag()
        self.head = self._find_head()
        # A newline ends a line in the text of a step, too: there the positions are counted, not looked for.
        self._escape: Escape = escaper(tokenizer, "" if spec.family == "skywork" else spec.marks.tag)
        if spec.family == "rlhflow":
            self._dialogue("a", ["b", "c"])

    def lay_out(self, problem: str, steps: Sequence[str]) -> Laid:
        """Return ids and read positions: one per step, or the last step's where a pass scores one."""
        problem, steps = self._escape(problem.strip()), [self._escape(step.strip()) for step in steps]
        if self._family == "qwen_math_prm":
            return self._tagged(self._qwen_text(problem, steps), special_tokens=False)
        if self._family == "math_shepherd":
            return self._tagged(self._shepherd_text(problem, steps), special_tokens=True)
        if self._family == "rlhflow":
            return self._dialogue(problem, steps)
        if self._family == "skywork":
            return self._lines(problem, steps)
        if self._family == "generative":
            ids = self._encode(self._question(problem, steps))
            return Laid(ids, [len(ids) - 1])
        raise ConfigError(f"prm.family {self._family} reads the run's own ids, there is no text to lay out")

    def _find_tag(self) -> int:
        tag = self._marks.tag
        if self._family == "qwen_math_prm":
            return id_behind(self._tokenizer, "a", tag, "tag")
        if self._family == "math_shepherd":
            return id_behind(self._tokenizer, "a ", tag, "tag")
        return one_id(self._tokenizer, tag, "tag") if self._family == "skywork" else -1

    def _find_head(self) -> TokenHead:
        if self._family == "skywork":
            return TokenHead(kind="value")
        labels = {"negative": self._marks.negative, "positive": self._marks.positive}
        if self._family in ("math_shepherd", "rlhflow"):
            ids = tuple(one_id(self._tokenizer, mark, name) for name, mark in labels.items())
        elif self._family == "generative":
            before = self._question("a", ["b"]) + ("" if self._tokenizer.chat_template else " ")
            ids = tuple(id_behind(self._tokenizer, before, mark, name) for name, mark in labels.items())
        else:
            return TokenHead()
        if len(set(ids)) != len(ids):
            raise ConfigError(f"prm.marks.positive and prm.marks.negative are one token: {labels}")
        return TokenHead(kind="tokens", label_ids=ids)

    def _encode(self, text: str, special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special_tokens))

    def _render(self, turns: Sequence[dict[str, str]], *, answer: bool) -> str:
        # A judge that thinks first would be asked for its verdict where its thoughts begin.
        text: str = self._tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=answer, enable_thinking=False
        )
        return text

    def _tagged(self, text: str, *, special_tokens: bool) -> Laid:
        ids = self._encode(text, special_tokens)
        return Laid(ids, [index for index, token in enumerate(ids) if token == self._tag_id])

    def _qwen_text(self, problem: str, steps: Sequence[str]) -> str:
        turns = [
            {"role": "system", "content": _QWEN_SYSTEM},
            {"role": "user", "content": problem},
            {"role": "assistant", "content": "".join(step + self._marks.tag for step in steps)},
        ]
        return self._render(turns, answer=False)

    def _shepherd_text(self, problem: str, steps: Sequence[str]) -> str:
        return f"{problem} " + "\n".join(f"{step} {self._marks.tag}" for step in _numbered(steps))

    def _dialogue(self, problem: str, steps: Sequence[str]) -> Laid:
        """Each step is the user's turn and every answer a `+`; a score is read where the answer is predicted."""
        turns: list[dict[str, str]] = []
        before: list[str] = []
        for index, step in enumerate(steps):
            turns.append({"role": "user", "content": step if index else f"{problem} {step}"})
            before.append(self._render(turns, answer=True))
            turns.append({"role": "assistant", "content": self._marks.positive})
        text = self._render(turns, answer=False)
        coded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(coded["input_ids"])
        starts = {start: index for index, (start, end) in enumerate(coded["offset_mapping"]) if end > start}
        answers = [starts.get(len(part), -1) if text.startswith(part) else -1 for part in before]
        if any(index < 1 or ids[index] != self.head.label_ids[1] for index in answers):
            raise ConfigError(
                f"prm.family rlhflow: in this tokenizer's chat template the answer {self._marks.positive!r} to a step "
                "is not the one token behind the conversation before it; check prm.family and prm.name"
            )
        return Laid(ids, [index - 1 for index in answers])

    def _lines(self, problem: str, steps: Sequence[str]) -> Laid:
        """Lines are tokenized one by one, each followed by the newline's id, as the model was trained."""
        ids = self._encode(f"{self._tokenizer.bos_token or ''}{problem}\n")
        positions = []
        for step in steps:
            for line in [line for line in step.split("\n") if line.strip()] or [""]:
                ids += [*self._encode(line), self._tag_id]
            positions.append(len(ids) - 1)
        return Laid(ids, positions)

    def _question(self, problem: str, steps: Sequence[str]) -> str:
        text = _JUDGE.format(
            problem=problem,
            steps="\n".join(_numbered(steps)),
            last=len(steps),
            positive=self._marks.positive,
            negative=self._marks.negative,
        )
        if not self._tokenizer.chat_template:
            return text + _PLAIN_ANSWER
        return self._render([{"role": "user", "content": text}], answer=True)


def _numbered(steps: Sequence[str]) -> list[str]:
    """Begin every step with its number, unless it does so itself.

    >>> _numbered(["1+1=2.", "Step 2: so 2."])
    ['Step 1: 1+1=2.', 'Step 2: so 2.']
    """
    names = [f"Step {number}:" for number in range(1, len(steps) + 1)]
    return [step if step.startswith(name) else f"{name} {step}" for name, step in zip(names, steps, strict=True)]
