"""A model behind a real `vllm serve` on loopback answers as the embedded engine does, whatever happens on the way."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._served import FAULTS, FaultyProxy, free_port, vllm_serve
from pipeline.engines import load_engine
from pipeline.engines.base import ModelRef
from pipeline.engines.http import Patience, Servers
from pipeline.engines.server import ServerEngine
from tests.pipeline.test_engines import BAD, PARAMS, PROMPTS, TEACHER, requests
from vcrd.errors import ConfigError
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, ScoreRequest

SERVED = replace(PARAMS, served=("teacher",), max_in_flight=16)
HASTE = Patience(tries=8, timeout=3.0, first_wait=0.02, longest_wait=0.2)


@pytest.fixture(scope="module")
def url(needs_vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllm_serve(TEACHER, tmp_path_factory.mktemp("served") / "log", "--enable-prompt-tokens-details") as url:
        yield url


@pytest.fixture
def served(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VCRD_TEACHER_URLS", url)
    return load_engine(SERVED, TEACHER, None, "generate", role="teacher")


@pytest.fixture(scope="module")
def embedded():
    return load_engine(PARAMS, TEACHER, None, "generate")


@pytest.mark.slow
class TestServer:
    """With the real server."""

    def test_greedy_tokens_candidates_and_tails_agree(self, served, embedded) -> None:
        wanted = requests(top_k_logprobs=4)
        for ours, theirs in zip(embedded.generate(wanted), served.generate(wanted), strict=True):
            assert (ours.id, ours.token_ids, ours.finish_reason) == (theirs.id, theirs.token_ids, theirs.finish_reason)
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.logprobs), np.exp(theirs.top.logprobs), atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.tail), np.exp(theirs.top.tail), atol=1e-5)
        asked = sum(len(item.prompt_ids) for item in wanted)
        assert served.prefilled.asked == asked
        assert 0 < served.prefilled.computed <= asked

    def test_stop_strings_and_no_candidates_agree(self, served, embedded) -> None:
        wanted = requests(stop=("\n",))
        for ours, theirs in zip(embedded.generate(wanted), served.generate(wanted), strict=True):
            assert (ours.token_ids, ours.finish_reason) == (theirs.token_ids, theirs.finish_reason)
            assert theirs.top is None

    def test_scores_agree(self, served, embedded) -> None:
        asked = [
            ScoreRequest(id=str(index), token_ids=ids, start=2, top_k_logprobs=3) for index, ids in enumerate(PROMPTS)
        ]
        for ours, theirs in zip(embedded.score(asked), served.score(asked), strict=True):
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.tail), np.exp(theirs.top.tail), atol=1e-5)

    def test_drawn_tokens_are_there_beside_their_candidates(self, served) -> None:
        for answer in served.generate(requests(temperature=1.5, top_k_logprobs=2)):
            total = np.exp(answer.top.logprobs.astype(float)).sum(1) + np.exp(answer.top.tail.astype(float))
            np.testing.assert_allclose(total, 1, atol=1e-5)
            assert (np.diff(answer.top.logprobs, axis=1) <= 0).all()
            assert (answer.logprobs <= answer.top.logprobs[:, 0] + 1e-6).all()

    def test_a_bad_request_fails_alone(self, served) -> None:
        sampling = Sampling(max_tokens=20, temperature=0.0)
        bad = [GenerateRequest(id=reason, prompt_ids=ids, seed=1, sampling=sampling) for reason, ids in BAD.items()]
        too_many = replace(bad[0], id="x", prompt_ids=[5], sampling=replace(sampling, top_k_logprobs=1000))
        answers = served.generate([*requests()[:2], *bad, too_many, *requests()[2:]])
        assert [item.reason for item in answers[2:6]] == [*BAD, "refused"]
        assert "logprobs" in answers[5].message
        assert all(isinstance(item, Generation) for item in answers[:2] + answers[6:])

    def test_faults_on_the_way_lose_no_row_and_double_none(self, url: str, embedded) -> None:
        wanted = [replace(item, id=f"{item.id}/{turn}") for turn in range(5) for item in requests()]
        expected = [item.token_ids for item in embedded.generate(requests())] * 5
        with FaultyProxy(url, 0.3, 7, hang=4.0) as first, FaultyProxy(url, 0.3, 8, hang=4.0) as second:
            engine = ServerEngine(SERVED, ModelRef(TEACHER), "generate", [first.url, second.url], HASTE)
            answers = engine.generate(wanted)
            assert set(first.faults) == set(second.faults) == set(FAULTS)
            assert first.passed
            assert second.passed
            # A truncated answer was whole at the server: more were answered there than here.
            assert first.passed + second.passed == len(wanted)
        assert [item.id for item in answers] == [item.id for item in wanted]
        assert [item.token_ids for item in answers] == expected

    def test_another_models_tokenizer_is_refused(self, url: str, tmp_path: Path) -> None:
        from tests.pipeline.tiny_models import save_model

        with pytest.raises(ConfigError, match="tokenizer is not the run's"):
            ServerEngine(SERVED, ModelRef(save_model(tmp_path, "llama")), "generate", [url])

    def test_a_server_that_always_fails_inside_costs_that_row_alone(self, url: str) -> None:
        class Poisoned(FaultyProxy):
            def draw(self) -> str | None:
                return "status 500"

        with Poisoned(url, 1.0, 0, hang=0.0) as proxy:
            engine = ServerEngine(SERVED, ModelRef(TEACHER), "generate", [proxy.url], replace(HASTE, tries=2))
            answers = engine.generate(requests()[:2])
        assert [item.reason for item in answers if isinstance(item, Failure)] == ["server_error"] * 2


def test_a_server_that_is_not_there_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("VCRD_TEACHER_URLS", nowhere)
    with pytest.raises(ConfigError, match=rf"{re.escape(nowhere)}.*vllm serve"):
        load_engine(SERVED, TEACHER, None, "generate", role="teacher")


def test_a_server_that_goes_away_ends_the_stage_and_says_where_it_was() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"

    async def post() -> None:
        async with Servers([nowhere], "secret", replace(HASTE, tries=3), 1) as servers:
            await servers.post("/v1/completions", {}, lambda answer: answer)

    with pytest.raises(ConfigError, match=rf"after 3 tries.*{re.escape(nowhere)}") as error:
        asyncio.run(post())
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("value", [None, "", "somewhere:8000", "http://a:1,b"])
def test_the_environment_must_say_where_the_servers_are(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VCRD_TEACHER_URLS", raising=False)
    if value is not None:
        monkeypatch.setenv("VCRD_TEACHER_URLS", value)
    with pytest.raises(ConfigError, match="VCRD_TEACHER_URLS must hold the URLs"):
        load_engine(SERVED, TEACHER, None, "generate", role="teacher")


def test_a_served_model_is_no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCRD_TEACHER_URLS", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="cannot classify"):
        load_engine(SERVED, TEACHER, None, "classify", role="teacher")


@pytest.mark.parametrize("tried", [1, 3, 20])
def test_waits_double_within_a_bound_and_never_agree(tried: int) -> None:
    patience = Patience(first_wait=0.5, longest_wait=8.0)
    waits = {patience.wait(tried, 0.0) for _ in range(50)}
    most = min(8.0, 0.5 * 2 ** (tried - 1))
    assert len(waits) > 40
    assert min(waits) >= most / 2
    assert max(waits) <= most
    assert patience.wait(tried, 9.0) >= 9.0
