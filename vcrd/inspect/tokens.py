"""The text of each token, for people; a data set without a tokenizer at hand is shown by whole steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError
from vcrd.inspect.sources import Sources
from vcrd.records import MODELS
from vcrd.tokenization import decoder, load_tokenizer, token_char_ends, tokenizer_fingerprint

_STUDENT, _FILE = "student", "tokenizer.json"


class TokenTexts:
    """Ids to texts by one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Take a fast tokenizer of `transformers`."""
        self._tokenizer = tokenizer
        self._decode = decoder(tokenizer)

    def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return self._decode(token_ids)

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Return one text per id; a special token, which has no text, by its name.

        A token that leaves a character unfinished is empty: the one that finishes it has the character.
        """
        text = self._decode(token_ids)
        ends = token_char_ends(token_ids, self._decode)
        starts = [0, *ends]
        special = set(self._tokenizer.all_special_ids)
        return [
            str(self._tokenizer.convert_ids_to_tokens(int(token))) if token in special else text[start:end]
            for token, start, end in zip(token_ids, starts, ends, strict=False)
        ]


def find_token_texts(sources: Sources, given: str | None) -> tuple[TokenTexts | None, str]:
    """Return the texts of the data set's tokens, or None and why there are none.

    Args:
        sources: Of the page.
        given: The tokenizer's folder or Hub name; None: the student's, of the run that the data set lies in.

    Raises:
        ConfigError: The given one cannot be loaded, or the ids are of another.
    """
    if given is not None:
        tokenizer = load_tokenizer(given)
        found = tokenizer_fingerprint(tokenizer)
        if sources.tokenizer not in (None, found):
            raise ConfigError(
                f"tokenizer {given!r} is not the one of these token ids (its fingerprint is {found[:12]}, theirs is "
                f"{str(sources.tokenizer)[:12]}); give the student's own"
            )
        return TokenTexts(tokenizer), ""
    for folder in _candidates(sources):
        try:
            tokenizer = load_tokenizer(str(folder))
        except ModuleNotFoundError as error:
            return None, f"{error.name} is not installed"
        except ConfigError:
            continue
        if sources.tokenizer in (None, tokenizer_fingerprint(tokenizer)):
            return TokenTexts(tokenizer), ""
    return None, "no tokenizer of these token ids was found beside the data set"


def _candidates(sources: Sources) -> list[Path]:
    """Return folders of the run's student; a model of the Hub is asked for only by `given`."""
    if sources.run is None:
        return []
    names = [row["name"] for row in sources.beside.get(MODELS.name, ()) if row["role"] == _STUDENT]
    project = sources.run.resolve().parent.parent
    folders = [sources.run / _STUDENT, *(project / name for name in names)]
    return [folder for folder in folders if (folder / _FILE).is_file()]
