"""`vcrd inspect` on a run as the stages leave it: every row finds its place, and every token its text."""

from pathlib import Path

from tests.workspace import Workspace
from vcrd.inspect import gather_page


def test_every_example_of_a_run_finds_its_problem_rollout_evidence_and_tokens(
    finished: Workspace, tmp_path: Path
) -> None:
    rows = finished.table("training")
    page = tmp_path / "page.html"
    said = finished.check("python", "-m", "vcrd", "inspect", "data/demo-math/training", "-o", str(page))
    assert f"{len(rows)} examples of {rows['problem_id'].n_unique()} problems" in said
    assert page.stat().st_size > 10_000
    shown = gather_page(finished.root / "data/demo-math")
    assert shown.notes == []
    texts = {row["example_id"]: row[f"{row['target']}_step"] for row in rows.to_dicts()}
    for problem in shown.problems:
        assert problem.prompt
        for rollout in problem.rollouts:
            assert rollout.outcome is not None
            assert [item.index for item in rollout.prefixes] == list(range(len(rollout.prefixes)))
            for item in rollout.prefixes:
                if item.target is None:
                    assert item.note.startswith("no example: ")
                    continue
                assert item.tokens is not None
                assert "".join(item.tokens).removesuffix("<eos>") == texts.pop(item.id)
                assert item.student is not None
                assert item.student.sd is not None
    assert not texts
