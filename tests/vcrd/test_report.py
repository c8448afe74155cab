"""A run's report from plain values: the page, the tables and the terminal say what the findings say."""

import csv
import json
import math
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vcrd.report_findings import REJECTS, make_findings
from tests.workspace import ROOT
from vcrd.io.pages import spelled_out
from vcrd.report import PAGE, PLOTS, SUMMARY, Findings, as_text, summarise_run, write_report
from vcrd.report.charts import WIDTH, Axis, bars, histogram, lines
from vcrd.report.figures import charts_of
from vcrd.training.curve import CurvePoint


@pytest.fixture(scope="module")
def findings() -> Findings:
    return make_findings()


@pytest.fixture(scope="module")
def report(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, findings)
    return folder


def table(report: Path, name: str) -> list[dict[str, str]]:
    with (report / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_plot_of_dvc_has_its_table_and_columns(report: Path) -> None:
    for name, plot in PLOTS.items():
        [(file, columns)] = plot["y"].items()
        rows = table(report, file.removesuffix(".csv"))
        wanted = {plot["x"], *([columns] if isinstance(columns, str) else columns)}
        assert rows, name
        assert wanted <= set(rows[0]), name


def test_the_tables_add_up(report: Path, findings: Findings) -> None:
    funnel = table(report, "funnel")
    assert all(int(row["expected"]) == int(row["written"]) + int(row["rejected"]) for row in funnel)
    told = {(row["stage"], row["reason"]): int(row["rows"]) for row in table(report, "rejects")}
    assert told == {(stage, reason): count for stage, counts in REJECTS.items() for reason, count in counts.items()}
    assert sum(int(row["tokens"]) for row in table(report, "weights")) == findings.signal.tokens
    for name in ("student", "teacher"):
        assert sum(int(row[name]) for row in table(report, "validity")) == findings.signal.validities[name].sum()
    curve = table(report, "student_curve")
    assert [float(row["loss"]) for row in curve] == [point.loss for point in findings.curves["student"]]
    assert curve[2]["kl"] == ""


def test_the_page_draws_what_the_tables_hold(report: Path, findings: Findings) -> None:
    page = (report / PAGE).read_text()
    figures = [part.partition("</figure>")[0] for part in page.split("<figure>")[1:]]
    titles = [re.search("<h3>(.*?)</h3>", figure)[1] for figure in figures]
    charts = charts_of(summarise_run(findings))
    assert sorted(titles) == sorted(chart.title for chart in charts.values())
    assert len(charts) == len(PLOTS)
    for figure in figures:
        label = re.search('role="img" aria-label="(.*?)"', figure)[1]
        chart = next(chart for chart in charts.values() if chart.label == unescape(label))
        cells = re.findall(r"<td[^>]*>(.*?)</td>", figure)
        assert [unescape(cell) for cell in cells] == [cell for row in chart.rows for cell in row]
    curve = charts["student_curve"].rows
    assert len(curve) == 25
    assert curve[-1][0] == "400"
    for said in ("empty_step 3, unfinished_step 4", "0.858", "344,964", "score_mine"):
        assert said in page, said


def test_nothing_of_the_report_tells_a_time_or_leads_elsewhere(report: Path) -> None:
    names = {path.name for path in report.iterdir()}
    assert {PAGE, SUMMARY} < names
    for path in report.iterdir():
        text = path.read_text()
        assert not re.search(r"\bsecond|\d\d:\d\d|https?:|<script|<link|@import", text), path.name


def test_a_run_without_labels_and_trainings_has_a_report_too(tmp_path: Path, findings: Findings) -> None:
    judged = {**findings.judged, "diagram": []}
    write_report(tmp_path, replace(findings, judged=judged, curves={"student": [], "prm": []}, tokens=[]))
    page = (tmp_path / PAGE).read_text()
    assert "Reliability diagram" not in page
    assert "Training of the" not in page
    assert table(tmp_path, "prm_curve") == []


def test_a_training_that_went_astray_is_told(tmp_path: Path, findings: Findings) -> None:
    point = CurvePoint(step=1, learning_rate=0.1, loss=math.nan, supervised_tokens=3, nll=math.inf)
    write_report(tmp_path, replace(findings, curves={"student": [point, replace(point, step=2)], "prm": []}))
    assert json.loads((tmp_path / SUMMARY).read_text())["curves"]["student"][0]["loss"] is None


def test_the_terminal_says_the_funnel(findings: Findings) -> None:
    said = as_text(summarise_run(findings), Path("report.html"))
    assert re.search(r"propose_steps +967 +960  empty_step 3, unfinished_step 4", said)
    assert "student after       0.858  [0.828, 0.883]" in said


@given(st.floats(1e-6, 1e9))
def test_ticks_are_few_round_and_on_the_axis(end: float) -> None:
    ticks = Axis(end, 0, 100).ticks
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= end * (1 + 1e-9)
    assert all(math.isclose(right - left, ticks[1], rel_tol=1e-9) for left, right in pairwise(ticks))


COUNTS = st.integers(0, 10**9)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=12))
def test_bars_are_as_long_as_their_values_and_never_leave_the_picture(values: list[tuple[int, int]]) -> None:
    names = [f"stage {index}" for index in range(len(values))]
    plot = bars(names, values, [str(sum(row)) for row in values])
    for item in plot.rects:
        assert 0 <= item.x <= item.x + item.width <= WIDTH - 60
        assert item.y + item.height <= plot.height
    longest = max(sum(row) for row in values)
    drawn = {name: sum(item.width for item in plot.rects if item.title.startswith(f"{name}:")) for name in names}
    widest = max(drawn.values(), default=0)
    for name, row in zip(names, values, strict=True):
        assert drawn[name] == pytest.approx(widest * sum(row) / max(longest, 1), abs=0.1)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=30), st.floats(0.1, 50))
def test_a_histograms_area_is_its_counts(bins: list[tuple[int, int]], end: float) -> None:
    edges = [end * index / len(bins) for index in range(len(bins) + 1)]
    plot = histogram(edges, list(zip(*bins, strict=True)), ("a", "b"), "x", "y")
    assert len(plot.rects) == 2 * len(bins)
    highest = max(max(row) for row in bins)
    unit = max(item.height for item in plot.rects) / max(highest, 1)
    for item, count in zip(plot.rects, [count for row in zip(*bins, strict=True) for count in row], strict=True):
        assert item.height == pytest.approx(unit * count, abs=0.1)
        assert 0 <= item.y <= item.y + item.height <= plot.height


def test_a_line_leaves_out_what_is_not_known() -> None:
    plot = lines([1, 2, 3], [[1.0, None, 3.0], [None, None, None]], "step", "nats")
    assert [len(item.points.split()) for item in plot.lines] == [2]


def test_both_pages_spell_out_the_same_characters() -> None:
    script = (ROOT / "vcrd/inspect/page/text.js").read_text(encoding="utf-8")
    [of_inspect] = re.findall(r"const STEERING =\s+/(\[.*\])/gu;", script)
    theirs = re.compile(re.sub(r"\\u\{(\w+)\}", lambda found: rf"\U{int(found[1], 16):08x}", of_inspect))
    differ = [
        code for code in range(0x110000) if bool(theirs.match(chr(code))) != (spelled_out(chr(code)) != chr(code))
    ]
    assert differ == []
