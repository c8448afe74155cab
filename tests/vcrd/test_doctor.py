"""`vcrd doctor`: says what works here, and what to do where something does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vcrd.test_cli import vcrd
from vcrd.cli import doctor
from vcrd.errors import ConfigError


def test_what_a_run_needs_is_here() -> None:
    told = json.loads(vcrd("doctor", "--quick", "--json").stdout)
    parts = {item["part"]: item["status"] for item in told["parts"]}
    assert told["ok"] is True
    assert {parts[name] for name in ("vcrd", "pipeline", "train")} == {"works"}
    assert parts["engine transformers"] == "not tried"


def test_requirements_are_those_of_the_package() -> None:
    assert doctor.requirements("")["click"] == "8.1"
    assert "click" not in doctor.requirements("train")
    assert doctor.requirements("train")["transformers"] == "5.19"


def test_a_missing_package_and_an_old_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.7.1+cpu", "transformers": "5.19.0", "trl": "1.16.0", "accelerate": "1.14.0"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    found = doctor._packages("train", "train", "training")
    assert found.status == "missing"
    assert found.detail.startswith("safetensors, torch 2.7.1+cpu (at least 2.8)")
    assert found.remedy == "pip install 'vcrd[train]'"


def test_an_engine_that_cannot_be_imported_is_broken_and_one_that_can_works() -> None:
    broken = doctor._imported("engine x", "x 1", "raise RuntimeError('operator torchvision::nms does not exist')")
    assert broken.status == "broken"
    assert "nms" in broken.detail
    assert doctor._imported("engine x", "x 1", "import os; os.abort()").status == "broken"
    assert doctor._imported("engine x", "x 1", "print(True)") == doctor.Finding("engine x", "works", "x 1, on CUDA")


def test_a_sandbox_that_does_not_hold_says_why() -> None:
    def refuse() -> None:
        raise ConfigError("install bubblewrap")

    assert "install bubblewrap" in doctor._sandbox(refuse).detail


def test_what_a_run_lacks_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vcrd'"):
        doctor.command.main(["--quick"], standalone_mode=False)


def test_a_token_is_never_shown() -> None:
    environment = {**os.environ, "HF_TOKEN": "hf_forTestsOnlyNoRealToken"}
    command = [sys.executable, "-m", "vcrd", "doctor", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "a token is set" in done.stdout
    assert "hf_for" not in done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs(shell: str, tmp_path: Path) -> None:
    program = "from vcrd.cli import main; main()"
    source = {**os.environ, "_VCRD_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=source, check=False)
    assert "_VCRD_COMPLETE" in done.stdout
    words = {"COMP_WORDS": "vcrd va", "COMP_CWORD": "va" if shell == "fish" else "1"}
    asked = {**os.environ, "_VCRD_COMPLETE": f"{shell}_complete", **words}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=asked, check=False)
    assert "validate" in done.stdout


def test_help_names_every_exit_code() -> None:
    assert "\n    75   another process is writing the same thing\n" in vcrd("--help").stdout
