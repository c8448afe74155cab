"""Bad records change no good one, are rejected with their reason, and stop a run where there are too many."""

from pathlib import Path

import pytest

from benchmarks.faults.old_data import misread, older_records
from benchmarks.faults.poison import POISONS, poisoned_problems, spoilt_parquet
from benchmarks.faults.poison_models import nothing_but_bad_texts, poisoned_requests, poisoned_texts
from benchmarks.faults.same_bytes import across_batches


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_bad_problems_of_every_kind(tmp_path: Path, share: float) -> None:
    found = poisoned_problems(tmp_path, 20, seed=1, shares=[share])
    assert len(found) == len(POISONS) > 20
    assert not {name: fault for name, fault in found.items() if fault}


def test_text_that_is_no_utf8_spoils_no_other_row_of_its_file(tmp_path: Path) -> None:
    assert spoilt_parquet(tmp_path / "source") is None


def test_bad_requests_fail_alone(tmp_path: Path) -> None:
    assert poisoned_requests(tmp_path, 8) == []


@pytest.mark.timeout(600)
def test_bad_texts_change_no_good_rollout(tmp_path: Path) -> None:
    assert poisoned_texts(tmp_path / "among", 6) == []
    assert nothing_but_bad_texts(tmp_path / "alone") is None


def test_batches_of_another_size_give_the_same_tokens(tmp_path: Path) -> None:
    for name, found in across_batches(tmp_path, 8).items():
        assert (found.equal + found.ties, found.apart) == (found.answers, 0), name
        assert found.logprob <= 1e-4, name


def test_data_of_another_version_is_read_or_refused(tmp_path: Path) -> None:
    faults, count = misread(tmp_path / "shards")
    assert count > 400
    assert faults == []
    assert older_records(tmp_path / "records") == []
