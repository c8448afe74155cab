"""The check of licences covers what the project needs, and nothing else of the environment."""

from __future__ import annotations

import tomllib

import pytest

from scripts.licences import installed_licences, is_accepted, needed, refused
from tests.workspace import ROOT

RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["vcrd"]["licences"]


@pytest.mark.parametrize(
    ("licence", "accepted"),
    [
        ("MIT", True),
        ("mit license", True),
        ("GPL-2.0-or-later", False),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT AND GPL-3.0", False),
        ("Apache Software License; BSD License", True),
        ("MIT License; GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("MIT License\n\nCopyright (c) somebody", True),
    ],
)
def test_a_licence_is_judged_as_it_is_spelled(licence: str, accepted: bool) -> None:
    assert is_accepted(licence, RULES["accept"]) == accepted


def test_what_is_needed_is_found_by_way_of_others_and_the_rest_of_the_environment_is_not() -> None:
    found = needed(["jinja2>=3", "no-such-package-anywhere"])
    assert found == {"jinja2", "markupsafe"}
    assert {"requests", "pydantic"} & needed(["dvc"])
    assert installed_licences({"jinja2"}) == {"jinja2": "BSD License"}


def test_what_is_not_accepted_is_named_unless_it_says_why() -> None:
    licences = {"good": "MIT", "bad": "AGPL-3.0", "excepted": "GPL-2.0"}
    rules = {"accept": ["MIT"], "packages": {"excepted": "dual-licensed"}}
    assert refused(licences, rules) == {"bad": "AGPL-3.0"}
    assert all(reason.strip() for reason in RULES["packages"].values())
