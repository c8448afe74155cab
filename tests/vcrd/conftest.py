"""Fixtures of tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.browser import Browser, find_chromium
from vcrd.errors import ConfigError


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all pages; a test opens its own, at the size and in the colours that it needs."""
    try:
        find_chromium()
    except ConfigError as error:
        pytest.skip(str(error))
    with Browser() as started:
        yield started
