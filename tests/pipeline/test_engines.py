"""Both engines answer the same requests with the same tokens and log-probabilities, and a bad request fails alone."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from pipeline.engines import EngineParams, load_engine
from pipeline.engines.sampling import choose, top_candidates
from tests.workspace import ROOT
from vcrd.domains.demo_math import DOMAIN, generate_problems
from vcrd.errors import ConfigError
from vcrd.requests import ClassifyRequest, Failure, GenerateRequest, Generation, Sampling, ScoreRequest, derive_seed

TEACHER = str(ROOT / "data/models/demo-math/teacher")
PARAMS = EngineParams(
    name="transformers",
    dtype="float32",
    device="cpu",
    threads=1,
    batch_size=16,
    max_in_flight=8,
    max_model_len=None,
    gpu_memory_utilization=0.5,
    tensor_parallel_size=1,
    kv_cache_gib=1,
)
TOKENIZER = DOMAIN.build_tokenizer()
PROMPTS = [TOKENIZER.encode(prompt + "\n") for terms in (3, 4) for prompt, _ in generate_problems(terms, 12, terms)]


def requests(**sampling) -> list[GenerateRequest]:
    chosen = Sampling(**{"max_tokens": 80, "temperature": 0.0, **sampling})
    return [
        GenerateRequest(id=f"r{index}", prompt_ids=ids, seed=derive_seed(1, f"r{index}"), sampling=chosen)
        for index, ids in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def engine():
    return load_engine(PARAMS, TEACHER, None, "generate")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A token classifier with a bias that is not zero."""
    folder = tmp_path_factory.mktemp("head")
    torch.manual_seed(0)
    classifier = AutoModelForTokenClassification.from_pretrained(TEACHER, num_labels=2, dtype=torch.float32)
    with torch.no_grad():
        classifier.score.bias.copy_(torch.tensor([0.3, -0.7]))
        classifier.score.weight.normal_()
    classifier.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def reference_logprobs(model, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def test_greedy_tokens_are_those_of_the_models_own_generate(engine, model) -> None:
    for request, answer in zip(requests()[:6], engine.generate(requests())[:6], strict=True):
        ids = torch.tensor([list(request.prompt_ids)])
        own = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=80)
        assert answer.token_ids == own[0, ids.shape[1] :].tolist()
        assert answer.finish_reason == ("eos" if own[0, -1] == TOKENIZER.eos_token_id else "length")


def test_log_probabilities_candidates_and_tail_are_the_models(engine, model) -> None:
    for request, answer in zip(requests()[:4], engine.generate(requests(top_k_logprobs=5))[:4], strict=True):
        start = len(request.prompt_ids)
        reference = reference_logprobs(model, [*request.prompt_ids, *answer.token_ids])[start - 1 : -1]
        chosen = reference.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0].numpy()
        np.testing.assert_allclose(answer.logprobs, chosen, atol=1e-4)
        top, ids = reference.topk(5, -1)
        assert (answer.top.ids == ids.numpy()).mean() > 0.98
        np.testing.assert_allclose(answer.top.logprobs, top.numpy(), atol=1e-3)
        total = np.exp(answer.top.logprobs.astype(float)).sum(1) + np.exp(answer.top.tail.astype(float))
        np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batchs_size_and_order_change_no_token(engine, temperature: float) -> None:
    wanted = requests(temperature=temperature)
    one_by_one = load_engine(replace(PARAMS, batch_size=1), TEACHER, None, "generate").generate(wanted)
    together = engine.generate(wanted[::-1])[::-1]
    for alone, among in zip(one_by_one, together, strict=True):
        assert alone.token_ids == among.token_ids
        np.testing.assert_allclose(alone.logprobs, among.logprobs, atol=1e-4)


def test_a_seed_decides_and_another_seed_differs(engine) -> None:
    wanted = requests(temperature=1.0)
    first, second = engine.generate(wanted), engine.generate(wanted)
    assert [item.token_ids for item in first] == [item.token_ids for item in second]
    other = engine.generate([replace(item, seed=item.seed + 1) for item in wanted])
    assert sum(a.token_ids != b.token_ids for a, b in zip(first, other, strict=True)) > len(wanted) // 2


def test_sampling_follows_the_distribution() -> None:
    logprobs = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, 4)
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones(4000, 1)
    drawn = choose(logprobs, ones, ones, uniform).bincount(minlength=4) / 4000
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.15, 0.05], atol=0.03)
    nucleus = choose(logprobs, ones, ones * 0.75, uniform).bincount(minlength=4) / 4000
    np.testing.assert_allclose(nucleus, [0.625, 0.375, 0, 0], atol=0.03)
    cold = choose(logprobs, ones * 0.5, ones, uniform).bincount(minlength=4) / 4000
    np.testing.assert_allclose(cold, np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365, atol=0.03)


def test_the_tail_of_a_sure_model_is_not_lost() -> None:
    logits = torch.full((1, 100), -20.0)
    logits[0, 7] = 0.0
    _, _, tail = top_candidates(logits.log_softmax(-1), 1)
    assert tail.item() == pytest.approx(np.log(99) - 20, abs=1e-3)


def test_a_stop_string_ends_with_the_token_that_completes_it(engine) -> None:
    for answer in engine.generate(requests(stop=("\n",))):
        assert answer.finish_reason == "stop"
        assert TOKENIZER.decode(answer.token_ids).count("\n") == 1
        assert TOKENIZER.decode(answer.token_ids).endswith("\n")


def test_scores_are_the_generated_log_probabilities(engine) -> None:
    wanted = requests(top_k_logprobs=4)
    made = engine.generate(wanted)
    asked = [
        ScoreRequest(
            id=item.id, token_ids=[*item.prompt_ids, *answer.token_ids], start=len(item.prompt_ids), top_k_logprobs=4
        )
        for item, answer in zip(wanted, made, strict=True)
    ]
    for answer, score in zip(made, engine.score(asked), strict=True):
        np.testing.assert_allclose(answer.logprobs, score.logprobs, atol=1e-4)
        np.testing.assert_allclose(np.exp(answer.top.tail), np.exp(score.top.tail), atol=1e-5)


BAD = {
    "empty_prompt": [],
    "token_out_of_vocabulary": [3, 29],
    "too_long": [5] * 250,
}


def test_a_bad_request_fails_alone_with_its_reason(engine) -> None:
    good = requests()
    bad = [
        GenerateRequest(id=name, prompt_ids=ids, seed=1, sampling=Sampling(max_tokens=20)) for name, ids in BAD.items()
    ]
    answers = engine.generate([*good[:3], *bad, *good[3:]])
    assert [item.reason for item in answers[3:6]] == list(BAD)
    assert all(isinstance(item, Failure) for item in answers[3:6])
    assert [item.token_ids for item in answers[:3] + answers[6:]] == [item.token_ids for item in engine.generate(good)]


def test_nan_weights_are_failures_not_tokens(tmp_path: Path, model) -> None:
    broken = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32)
    with torch.no_grad():
        broken.model.embed_tokens.weight[7] = float("nan")
    broken.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    engine = load_engine(PARAMS, str(tmp_path), None, "generate")
    good, bad = [5, 6, 8], [5, 7, 8]
    sampling = Sampling(max_tokens=4, temperature=0.0)
    answers = engine.generate(
        [
            GenerateRequest(id=str(index), prompt_ids=ids, seed=1, sampling=sampling)
            for index, ids in enumerate([bad, good])
        ]
    )
    assert answers[0].reason == "not_finite"
    assert isinstance(answers[1], Generation)


def test_classes_are_read_where_they_are_asked_for(head: str) -> None:
    classifier = AutoModelForTokenClassification.from_pretrained(head, dtype=torch.float32).eval()
    engine = load_engine(PARAMS, head, None, "classify")
    asked = [
        ClassifyRequest(id=str(ids), token_ids=ids, read_positions=[2, 0, len(ids) - 1])
        for index, ids in enumerate(PROMPTS)
    ]
    for request, answer in zip(asked, engine.classify(asked), strict=True):
        with torch.inference_mode():
            expected = classifier(torch.tensor([list(request.token_ids)])).logits[0].softmax(-1)
        np.testing.assert_allclose(answer.probabilities, expected[list(request.read_positions)], atol=1e-5)
    refused = engine.classify([ClassifyRequest(id="x", token_ids=[3, 4], read_positions=[2])])
    assert refused[0].reason == "bad_position"


def test_a_generator_is_no_classifier() -> None:
    with pytest.raises(ConfigError, match="no classes for tokens"):
        load_engine(PARAMS, TEACHER, None, "classify")


@pytest.mark.parametrize("path", ["/nowhere/model", "./nothing", "nothing"])
def test_an_unknown_model_is_a_config_error(path: str) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_engine(PARAMS, path, None, "generate")


@pytest.fixture(scope="module")
def vllm(needs_vllm):
    engine = load_engine(replace(PARAMS, name="vllm"), TEACHER, None, "generate")
    yield engine
    engine.close()


@pytest.mark.slow
class TestVllm:
    """The real engine, on CPU, against the embedded one."""

    def test_greedy_tokens_and_log_probabilities_agree(self, engine, vllm) -> None:
        wanted = requests(top_k_logprobs=4)
        for ours, theirs in zip(engine.generate(wanted), vllm.generate(wanted), strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.finish_reason == theirs.finish_reason
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.logprobs), np.exp(theirs.top.logprobs), atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.tail), np.exp(theirs.top.tail), atol=1e-5)

    def test_stop_strings_agree(self, engine, vllm) -> None:
        wanted = requests(stop=("\n",))
        for ours, theirs in zip(engine.generate(wanted), vllm.generate(wanted), strict=True):
            assert (ours.token_ids, ours.finish_reason) == (theirs.token_ids, theirs.finish_reason)

    def test_scores_agree(self, engine, vllm) -> None:
        asked = [
            ScoreRequest(id=str(ids), token_ids=ids, start=2, top_k_logprobs=3) for index, ids in enumerate(PROMPTS)
        ]
        for ours, theirs in zip(engine.score(asked), vllm.score(asked), strict=True):
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
            np.testing.assert_allclose(np.exp(ours.top.tail), np.exp(theirs.top.tail), atol=1e-5)

    def test_seeds_repeat_whatever_the_order(self, vllm) -> None:
        wanted = requests(temperature=1.0)
        first, second = vllm.generate(wanted), vllm.generate(wanted[::-1])[::-1]
        assert [item.token_ids for item in first] == [item.token_ids for item in second]
        assert len({tuple(item.token_ids) for item in first}) > len(wanted) // 2

    def test_shared_prefixes_are_computed_once_and_change_no_answer(self, engine, vllm) -> None:
        solved = engine.generate(requests())
        prefixes = [
            [*prompt, *answer.token_ids[:end]]
            for prompt, answer in zip(PROMPTS, solved, strict=True)
            for end in range(0, len(answer.token_ids), 6)
        ]
        sampling = Sampling(max_tokens=6, temperature=0.0, top_k_logprobs=2)
        wanted = [
            GenerateRequest(id=str(index), prompt_ids=ids, seed=1, sampling=sampling)
            for index, ids in enumerate(Random(0).sample(prefixes, len(prefixes)))
        ]
        vllm._llm.reset_prefix_cache()
        before = vllm.prefilled
        together = vllm.generate(wanted)
        done = vllm.prefilled - before
        assert done.asked == sum(len(ids) for ids in prefixes)
        unique = len({tuple(ids[:end]) for ids in prefixes for end in range(1, len(ids) + 1)})
        block = vllm._engine.vllm_config.cache_config.block_size
        assert done.computed - unique <= 1.1 * (block / 2 + 1) * len(prefixes)
        for request, among in list(zip(wanted, together, strict=True))[::7]:
            vllm._llm.reset_prefix_cache()
            (alone,) = vllm.generate([request])
            assert alone.token_ids == among.token_ids
            np.testing.assert_allclose(alone.logprobs, among.logprobs, atol=1e-4)

    def test_a_bad_request_fails_alone(self, vllm) -> None:
        sampling = Sampling(max_tokens=20, temperature=0.0)
        bad = [GenerateRequest(id=reason, prompt_ids=ids, seed=1, sampling=sampling) for reason, ids in BAD.items()]
        answers = vllm.generate([*requests()[:2], *bad, *requests()[2:]])
        assert [item.reason for item in answers[2:5]] == list(BAD)
        assert all(isinstance(item, Generation) for item in answers[:2] + answers[5:])


@pytest.mark.slow
@pytest.mark.usefixtures("needs_vllm")
def test_vllm_classifies_as_transformers_does(head: str) -> None:
    asked = [
        ClassifyRequest(id=str(ids), token_ids=ids, read_positions=[0, len(ids) - 1])
        for index, ids in enumerate(PROMPTS)
    ]
    engine = load_engine(replace(PARAMS, name="vllm"), head, None, "classify")
    theirs = engine.classify(asked)
    engine.close()
    for ours, other in zip(load_engine(PARAMS, head, None, "classify").classify(asked), theirs, strict=True):
        np.testing.assert_allclose(ours.probabilities, other.probabilities, atol=1e-4)
