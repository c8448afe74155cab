"""The data set card: YAML that readers of the Hub go by, and a page for people."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from vcrd.hub.columns import COLUMNS, ROWS
from vcrd.hub.contents import Contents
from vcrd.hub.edits import marked
from vcrd.hub.facts import Facts, TableFacts, models_of, params_of, seeds_of, versions
from vcrd.hub.licences import card_licence, sources_of
from vcrd.hub.plots import plot_names
from vcrd.hub.private import without_private
from vcrd.records import TRAINING

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_TAGS = ["vcrd", "distillation", "reasoning", "process-supervision"]


def make_card(contents: Contents, facts: Facts, repo: str, licences: Sequence[str]) -> str:
    """Return the card: YAML between two lines of dashes, then Markdown.

    Args:
        contents: What is shared.
        facts: What was counted of it.
        repo: `org/name`, for the lines that say how to load it.
        licences: Of the data.
    """
    import jinja2
    import yaml

    tables, signal = facts.tables, facts.signal
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(**options)  # noqa: S701 - Markdown: `cell` escapes what has markup in it
    environment.filters |= {"cell": _cell, "shell": shlex.quote, "literal": json.dumps}
    template = environment.from_string(files("vcrd.hub").joinpath("card.md.jinja").read_text(encoding="utf-8"))
    params = yaml.safe_dump(without_private(params_of(contents)), sort_keys=False, allow_unicode=True)
    body = template.render(
        repo=repo,
        run=contents.run.resolve().name,
        tables=tables,
        rows=ROWS,
        manifests=contents.manifests,
        columns=[(name, *COLUMNS[name]) for name in tables[TRAINING.name].schema.names] if signal else [],
        signal=signal,
        judged=facts.judged,
        plots=plot_names(facts),
        models=without_private(models_of(contents)),
        seeds=seeds_of(contents),
        versions=versions(),
        sources=sorted((without_private(item), count) for item, count in sources_of(contents.run).items()),
        licences=licences,
        params=params,
        fence=_fence(params),
    )
    return f"---\n{_metadata(tables, licences, repo)}\n---\n\n{marked(body)}"


def _metadata(tables: Mapping[str, TableFacts], licences: Sequence[str], repo: str) -> str:
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from datasets.splits import SplitDict, SplitInfo
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    main = TRAINING.name if TRAINING.name in tables else next(iter(tables))
    data = DatasetCardData(
        **card_licence(licences),
        pretty_name=repo.rpartition("/")[2],
        size_categories=[_size(tables[main].rows)],
        task_categories=["text-generation"],
        tags=_TAGS,
    )
    infos: dict[str, Any] = {}
    configs: dict[str, dict[str, Any]] = {}
    for name, facts in tables.items():
        split = SplitInfo(name="train", num_bytes=facts.bytes, num_examples=facts.rows, dataset_name=None)
        infos[name] = DatasetInfo(
            features=Features.from_arrow_schema(facts.schema),
            splits=SplitDict({"train": split}),
            download_size=facts.download,
            dataset_size=facts.bytes,
            config_name=name,
        )
        configs[name] = {"data_files": [{"split": "train", "path": f"{name}/*.parquet"}]}
    configs[main] |= {"default": True}
    DatasetInfosDict(infos).to_dataset_card_data(data)
    MetadataConfigs(configs).to_dataset_card_data(data)
    return str(data.to_yaml())


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def _fence(text: str) -> str:
    r"""Return a code block's fence that the text cannot close: a prompt among the parameters may have a block in it.

    >>> _fence("one: 1"), _fence("prompt: |-\n  ````python")
    ('```', '`````')
    """
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def _cell(value: Any) -> str:
    """Return a value as one cell of a table, whatever a name has in it."""
    text = " ".join(str(value).split())
    for sign in "\\`|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text
