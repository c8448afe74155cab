"""Pictures of a run's pages for the README: `python -m scripts.screenshots [data/PRESET]` fills docs/images."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from scripts.browser import Browser
from vcrd.errors import VcrdError
from vcrd.inspect import Page, PrefixView, gather_page, write_page
from vcrd.report import PAGE

IMAGES = Path("docs/images")
WIDTH, HEIGHT = 1280, 800
_ALL = 10_000
_INSPECT_READY = "performance.getEntriesByName('ready').length > 0"


def main() -> None:
    """Take them; an expected error is one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("data/demo-math"), help="folder of a finished run")
    parser.add_argument("-o", "--output", type=Path, default=IMAGES)
    given = parser.parse_args()
    try:
        for path in take(given.run, given.output):
            sys.stdout.write(f"{path} ({path.stat().st_size // 1024} KiB)\n")
    except VcrdError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)


def take(run: Path, output: Path) -> list[Path]:
    """Write inspect.png, inspect-dark.png, and report.png where the run has a report.

    Raises:
        ConfigError: The run has no training data set, or there is no browser.
    """
    output.mkdir(parents=True, exist_ok=True)
    made = []
    with tempfile.TemporaryDirectory() as folder, Browser(width=WIDTH, height=HEIGHT) as browser:
        path = Path(folder) / "page.html"
        page = gather_page(run, limit=_ALL)
        write_page(path, page)
        for scheme, name in (("light", "inspect.png"), ("dark", "inspect-dark.png")):
            browser.prefer(scheme)
            browser.open(path, f"#{quote(telling_prefix(page), safe='')}", _INSPECT_READY)
            made.append(_save(browser, output / name))
        browser.prefer("light")
        report = run / "report" / PAGE
        if report.is_file():
            browser.open(report)
            made.append(_save(browser, output / "report.png"))
    return made


def telling_prefix(page: Page) -> str:
    """Return the first step where the teacher is better by most, after most completions: what the page is for."""
    prefixes = [item for problem in page.problems for rollout in problem.rollouts for item in rollout.prefixes]

    def tells(item: PrefixView) -> tuple[bool, bool, int, float]:
        trials = sum((step and step.trials) or 0 for step in (item.student, item.teacher))
        return item.index == 0, (item.gap or 0.0) > 0.5 and item.target == "teacher", trials, item.gap or 0.0

    return max(prefixes, key=tells).id


def _save(browser: Browser, path: Path) -> Path:
    """Save the window in 64 colours, a fraction of its size in all of them."""
    with Image.open(io.BytesIO(browser.screenshot())) as picture:
        few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


if __name__ == "__main__":
    main()
