"""A made run, a browser, and a stand-in for the Hub with its user: one of each for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.browser import Browser, find_chromium
from tests.hub_server import Hub
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run
from vcrd.errors import ConfigError


@pytest.fixture(scope="session")
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def waiting_user(running_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    user = User(running_hub, tmp_path_factory.mktemp("home"))
    yield user
    user.close()


@pytest.fixture
def hub(running_hub: Hub) -> Hub:
    running_hub.repos.clear()
    running_hub.objects.clear()
    running_hub.requests.clear()
    return running_hub


@pytest.fixture
def user(hub: Hub, waiting_user: User) -> User:
    return waiting_user


@pytest.fixture(scope="session", params=["plain", "compact"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody may change."""
    return make_run(tmp_path_factory.mktemp(request.param) / "made", signal=request.param)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run" / "made", count=6)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all pages; a test opens its own, at the size and in the colours that it needs."""
    try:
        find_chromium()
    except ConfigError as error:
        pytest.skip(str(error))
    with Browser() as started:
        yield started
