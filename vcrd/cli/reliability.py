"""`vcrd reliability`: maps from a table of evidence to local validity, for any scorer and any labels."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd import __version__
from vcrd.errors import ConfigError, SchemaError, did_you_mean
from vcrd.io.files import read_json, sha256_file, write_json
from vcrd.io.parquet import read_table, write_table
from vcrd.reliability import (
    EvidenceTable,
    LabelledTable,
    ReliabilityModel,
    ReliabilityParams,
    cross_fitted,
    diagram,
    evidence_table,
    fit_reliability,
    is_evidence,
    measure,
    raw_estimates,
    read_labels,
)

_VALIDITY, _DEVIATION, _PREFIX = "local_validity", "local_validity_sd", "prefix_id"
_CROSS_FITTED = "cross_fitted"
_BINS = ("estimate", "bin", "n", "lowest", "highest", "mean_probability", "share_sound")

_evidence = click.argument("evidence", metavar="EVIDENCE.parquet", type=click.Path(path_type=Path))
_label = click.option("--label", required=True, help="Column: 1 where the step is sound, 0 where not, null: not known.")
_group = click.option("--group", required=True, help="Column: what belongs together, the problem for example.")
_l2 = click.option("--l2", type=click.FloatRange(0, min_open=True), default=0.1, show_default=True, help="Ridge.")
_floor = click.option(
    "--floor",
    type=click.FloatRange(0, 0.1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Local validity of steps that a rule proved wrong, before their labels are seen.",
)
_min_labels = click.option("--min-labels", type=click.IntRange(min=2), default=20, show_default=True)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_noisy = click.option("--noisy-labels", is_flag=True, help="Labels are estimates, of which some are wrong (EM).")


@click.group(name="reliability")
def command() -> None:
    """Statistical calibration: evidence of a step becomes the probability that it is sound.

    Columns of evidence, any of which may be missing or hold nulls: score_* in (0, 1), rule (-1 invalid, 0 abstain, 1
    valid), successes and trials of Monte-Carlo completions (both or neither), position in [0, 1], domain, policy.

    \b
    vcrd reliability fit evidence.parquet --label sound --group problem_id -o model.json
    vcrd reliability apply model.json evidence.parquet -o validity.parquet
    vcrd reliability report validity.parquet --label sound --group problem_id -o report/

    Exit codes: 0 done, 2 you can fix it (a file, a column, too few labels), 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo


@command.command()
@_evidence
@_label
@_group
@_l2
@_floor
@_min_labels
@_noisy
@_json
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model (JSON).")
def fit(
    evidence: Path,
    label: str,
    group: str,
    l2: float,
    floor: float,
    min_labels: int,
    noisy_labels: bool,
    as_json: bool,
    output: Path,
) -> None:
    """Fit the maps on labelled steps.

    \b
    vcrd reliability fit evidence.parquet --label sound --group problem_id -o model.json
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    _, table = _read_labelled(evidence, label, group)
    params = ReliabilityParams(l2=l2, floor=floor, min_labels=min_labels, noisy_labels=noisy_labels)
    known = _known_labels(table, min_labels, evidence)
    provenance = {
        "evidence": evidence.name,
        "evidence_sha256": sha256_file(evidence),
        "label": label,
        "group": group,
        "groups": len(np.unique(table.groups)),
        "rows": len(table),
        "params": asdict(params),
        "vcrd": __version__,
    }
    model = fit_reliability(table, params, provenance)
    if not model.fitted:
        raise ConfigError(
            f"{evidence}: of {len(known)} labels, too few are of steps that no rule proved wrong: nothing could be "
            f"fitted; label at least {min_labels} such steps (--min-labels)"
        )
    judged = measure(cross_fitted(table, params, model.n0), table.labels, table.groups)
    write_json(output, {**model.as_json(), "cross_fitted": judged})
    if as_json:
        counts = {"labels": len(known), "groups": provenance["groups"]}
        click.echo(json.dumps({"output": str(output), **counts, "cross_fitted": judged}))
        return
    said = f"by maps of the other groups: {_told(judged)}"
    if not judged["n"]:
        said = "nothing could be cross-fitted, for that takes enough labels in other groups"
    click.echo(f"{len(known)} labels in {provenance['groups']} groups; {said}")
    click.echo(f"-> {output}")


@command.command()
@click.argument("model_file", metavar="MODEL.json", type=click.Path(path_type=Path))
@_evidence
@_json
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The rows with two more columns.")
def apply(model_file: Path, evidence: Path, as_json: bool, output: Path) -> None:
    """Add local_validity and local_validity_sd to every row.

    \b
    vcrd reliability apply model.json evidence.parquet -o validity.parquet
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    model = ReliabilityModel.from_json(read_json(model_file), file=model_file)
    rows = read_table(evidence)
    table = _table(rows, evidence)
    validity, deviation = model.local_validity(table)
    for name, values in ((_VALIDITY, validity), (_DEVIATION, deviation)):
        if name in rows.column_names:
            rows = rows.drop_columns([name])
        rows = rows.append_column(name, pa.array(values, pa.float64()))
    write_table(output, rows)
    if as_json:
        unseen = int(model.unseen(table).sum())
        click.echo(json.dumps({"output": str(output), "rows": len(table), "unseen": unseen}))
    else:
        click.echo(f"{len(table)} rows -> {output}")
    _warn_unseen(model, table)


@command.command()
@_evidence
@_label
@_group
@_l2
@_floor
@_min_labels
@_noisy
@_json
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the report.")
def report(
    evidence: Path,
    label: str,
    group: str,
    l2: float,
    floor: float,
    min_labels: int,
    noisy_labels: bool,
    as_json: bool,
    output: Path,
) -> None:
    """Measure local_validity (where the rows have it), every single source as it is, and maps fitted on other groups.

    \b
    vcrd reliability report validity.parquet --label sound --group problem_id -o report/

    Writes report.json, reliability.csv and reliability.png. Intervals are 95 %, by a bootstrap over groups.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    rows, table = _read_labelled(evidence, label, group)
    estimates = {_VALIDITY: _column(rows, _VALIDITY)} if _VALIDITY in rows.column_names else {}
    estimates |= raw_estimates(table.evidence)
    params = ReliabilityParams(l2=l2, floor=floor, min_labels=min_labels, noisy_labels=noisy_labels)
    estimates[_CROSS_FITTED] = cross_fitted(table, params)
    prefixes = _texts(rows, _PREFIX) if _PREFIX in rows.column_names else None
    found = {name: measure(values, table.labels, table.groups, prefixes) for name, values in estimates.items()}
    bins = [{"estimate": name, **row} for name, values in estimates.items() for row in diagram(values, table.labels)]
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "report.json", {"evidence_sha256": sha256_file(evidence), "label": label, "estimates": found})
    with (output / "reliability.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _BINS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(bins)
    _draw(bins, output / "reliability.png")
    if as_json:
        click.echo(json.dumps({"output": str(output), "estimates": found}))
        return
    width = max(len(name) for name in found)
    for name, judged in found.items():
        click.echo(f"{name:<{width}}  {_told(judged)}")
    click.echo(f"-> {output}")


def _known_labels(table: LabelledTable, min_labels: int, evidence: Path) -> NDArray[np.float64]:
    known = np.asarray(table.labels[~np.isnan(table.labels)])
    if len(known) < min_labels or known.min() == known.max():
        raise ConfigError(
            f"{evidence}: {len(known)} labels, {int(known.sum())} of them 1; at least {min_labels} (--min-labels) and "
            "both kinds are needed"
        )
    return known


def _read_labelled(path: Path, label: str, group: str) -> tuple[pa.Table, LabelledTable]:
    rows = read_table(path)
    for name in (label, group):
        if name not in rows.column_names:
            raise ConfigError(f"{path} has no column {name!r}{did_you_mean(name, rows.column_names)}")
    labels = read_labels(rows.column(label).to_pylist(), label, file=path)
    if rows.column(group).null_count:
        row = rows.column(group).to_pylist().index(None)
        raise SchemaError("expected what the step belongs to, got null", file=path, column=group, row=row)
    return rows, LabelledTable(evidence=_table(rows, path), labels=labels, groups=_texts(rows, group))


def _table(rows: pa.Table, path: Path) -> EvidenceTable:
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names if is_evidence(name)}
    return evidence_table(columns, rows.num_rows, file=path)


def _column(rows: pa.Table, name: str) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in rows.column(name).to_pylist()], float)


def _texts(rows: pa.Table, name: str) -> NDArray[np.str_]:
    return np.array([str(value) for value in rows.column(name).to_pylist()], np.str_)


def _warn_unseen(model: ReliabilityModel, table: EvidenceTable) -> None:
    unseen = model.unseen(table)
    if unseen.any():
        pairs = zip(table.domain[unseen].tolist(), table.policy[unseen].tolist(), strict=True)
        kinds = sorted({f"{domain or '-'}/{policy or '-'}" for domain, policy in pairs})
        click.echo(
            f"warning: {int(unseen.sum())} rows are of a domain/policy that no label was of ({', '.join(kinds[:5])}): "
            "base rates do not carry over; label some of them and fit again",
            err=True,
        )


def _told(judged: dict[str, Any]) -> str:
    if not judged["n"]:
        return "no estimates"
    parts = [f"n {judged['n']}"]
    for name, title in (("brier", "Brier"), ("log_loss", "log-loss"), ("ece", "ECE"), ("auroc", "AUROC")):
        value, low, high = (judged[name][key] for key in ("value", "low", "high"))
        if value is not None:
            parts.append(f"{title} {value:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]"))
    if (judged.get("pairs") or {}).get("n"):
        parts.append(f"pairs {judged['pairs']['accuracy']:.4f} of {judged['pairs']['n']}")
    return ", ".join(parts)


def _draw(bins: list[dict[str, Any]], path: Path) -> None:
    """Draw every estimate's diagram: shares of sound steps over mean probabilities."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name in dict.fromkeys(row["estimate"] for row in bins):
        mine = [row for row in bins if row["estimate"] == name]
        axes.plot(
            [row["mean_probability"] for row in mine], [row["share_sound"] for row in mine], marker="o", label=name
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="estimated probability", ylabel="share of sound steps")
    axes.legend()
    figure.savefig(path, metadata={"Software": None})
