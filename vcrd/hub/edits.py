"""What people write into a card on the Hub stays there: a push rewrites its own part, between two marks."""

from __future__ import annotations

from vcrd.errors import ConfigError, first_line
from vcrd.hub.index import CARD

START = "<!-- vcrd: every push writes this part anew; what stands above or below it is kept -->"
END = "<!-- vcrd: end of that part -->"
# What readers of the Hub go by, and what follows from the data.
_DECIDED = ("configs", "dataset_info", "license", "license_name", "size_categories")


def marked(body: str) -> str:
    """Return a card's text as the part that a push may write anew."""
    return f"{START}\n\n{body.strip()}\n\n{END}\n"


def keep_edits(card: str, theirs: str, *, first: bool) -> str:
    """Return the card with what people wrote into the one that is there.

    Of the metadata, `configs`, `dataset_info`, licence and size follow from the data, all else stays as they have it.

    Args:
        card: As it would be without them.
        theirs: As it is on the Hub.
        first: Whether nothing was pushed there before: a text without our part gets it below, and otherwise has been
            taken over by somebody and stays as it is.

    Raises:
        ConfigError: Their metadata cannot be read, or one of the two marks is gone.
    """
    import yaml
    from huggingface_hub import DatasetCard

    new = DatasetCard(card)
    try:
        old = DatasetCard(theirs)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        remedy = "mend it on the Hub, or delete the file there, and push again"
        raise ConfigError(f"the metadata of {CARD} cannot be read ({first_line(error)}); {remedy}") from error
    for name, value in vars(old.data).items():
        if name not in _DECIDED and value is not None:
            new.data[name] = value
    same = {name: value for name, value in vars(old.data).items() if value is not None} == vars(new.data)
    head = theirs.removesuffix(old.text) if same else f"---\n{new.data.to_yaml()}\n---\n"
    return head + _text(new.text.strip(), old.text, first=first)


def _text(ours: str, theirs: str, *, first: bool) -> str:
    above, start, rest = theirs.partition(START)
    _, end, below = rest.rpartition(END)
    if start and end:
        return f"{above}{ours}{below}"
    if start or END in theirs:
        raise ConfigError(
            f"{CARD} has only one of the lines {START!r} and {END!r}; put the other one back, or delete both"
        )
    return f"{theirs.rstrip()}\n\n{ours}\n" if first else theirs
