"""Parameters are typed: what is unknown, missing or out of range is named, at any depth."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import yaml
from annotated_types import Ge, Le

from pipeline.params import parse_settings, read_yaml, set_values
from vcrd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    share: Annotated[float, Ge(0), Le(1)]
    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    mode: Literal["fast", "slow"]
    inner: Inner | None
    limit: int | None


GOOD = {
    "preset": "p",
    "seed": 1,
    "run": {"num_shards": 2, "workers": 1, "executor": "local", "max_reject_share": 0.1},
    "outer": {"mode": "fast", "inner": {"share": 0.5, "names": ["a"]}, "limit": None},
}


def parse(*changes: str):
    return parse_settings(set_values(GOOD, changes), {"outer": Outer}, "params.yaml")


def test_sections_come_back_typed() -> None:
    settings = parse()
    assert settings.get(Outer) == Outer(mode="fast", inner=Inner(share=0.5, names=["a"]), limit=None)
    assert (settings.preset, settings.seed, settings.run.num_shards) == ("p", 1, 2)
    assert parse("outer.inner=null", "outer.limit=3").get(Outer).inner is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("outer.mode=medium", r"outer\.mode: .*'fast' or 'slow', got 'medium'"),
        ("outer.inner.share=1.5", r"outer\.inner.*share: .*less than or equal to 1, got 1\.5"),
        ("outer.inner.names=[1]", r"outer\.inner.*names\.0"),
        ("outer.inner=5", r"outer\.inner"),
        ("run.workers=0", r"run\.workers: .*greater than or equal to 1, got 0"),
        ("seed=soon", r"seed: .*got 'soon'"),
    ],
)
def test_a_wrong_value_names_its_key(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(change)


@pytest.mark.parametrize(
    ("place", "key", "message"),
    [
        ((), "outr", r"unknown parameter outr; did you mean 'outer'\?"),
        (("outer",), "moed", r"unknown parameter outer\.moed; did you mean 'mode'\?"),
        (("outer", "inner"), "shar", r"unknown parameter outer\.inner\.shar; did you mean 'share'\?"),
    ],
)
def test_an_unknown_key_names_the_nearest_at_any_depth(place: tuple[str, ...], key: str, message: str) -> None:
    values = yaml.safe_load(yaml.safe_dump(GOOD))
    section = values
    for name in place:
        section = section[name]
    section[key] = 1
    with pytest.raises(ConfigError, match=message):
        parse_settings(values, {"outer": Outer}, "params.yaml")


def test_a_missing_key_is_named_even_where_null_would_do() -> None:
    values = yaml.safe_load(yaml.safe_dump(GOOD))
    del values["outer"]["limit"]
    with pytest.raises(ConfigError, match=r"parameter outer\.limit is missing"):
        parse_settings(values, {"outer": Outer}, "params.yaml")


@pytest.mark.parametrize("change", ["outer", "outer.mod=1", "nowhere.x=1", "outer.mode.x=1"])
def test_a_change_must_hit_a_key(change: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        set_values(GOOD, [change])


def test_changes_read_yaml_and_leave_the_original_alone() -> None:
    changed = set_values(GOOD, ["outer.inner.share=1e-3", "outer.limit=7", "run.workers=2"])
    assert changed["outer"]["inner"]["share"] == 0.001
    assert changed["outer"]["limit"] == 7
    assert GOOD["outer"]["limit"] is None


def test_what_is_no_yaml_is_a_config_error(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    for text in ("a: [", "- 1\n", "\x00"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_yaml(path)
