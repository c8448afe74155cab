"""The fused loss is the plain one, in value and in every gradient, whatever the chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vcrd.loss_cases import H, make, relative, run

SHAPES = {
    "t": st.integers(1, 20),
    "v": st.integers(65, 400),
    "k": st.integers(1, 64),
    "kl_coef": st.sampled_from([0.0, 0.3, 1.0]),
    "chunk": st.sampled_from([1, 3, 7, "auto"]),
    "sharp": st.sampled_from([0.1, 1.0, 8.0, 40.0]),
    "spread": st.sampled_from([0.0, 6.0]),
    "seed": st.integers(0, 10_000),
}


@settings(max_examples=150)
@given(**SHAPES)
def test_float32_is_within_1e_5_of_float64(t, v, k, kl_coef, chunk, sharp, spread, seed) -> None:
    data = make(t, v, k, seed, sharp, spread)
    ours = run(data, True, torch.float32, kl_coef, chunk_size=chunk)
    assert all(item.isfinite().all() for item in ours)
    assert relative(ours, run(data, False, torch.float64, kl_coef)) <= 1e-5


@settings(max_examples=60)
@given(**SHAPES, near=st.booleans())
def test_float64_is_exact_even_where_all_but_a_difference_cancels(
    t, v, k, kl_coef, chunk, sharp, spread, seed, near
) -> None:
    data = make(t, v, k, seed, sharp, spread, near)
    ours = run(data, True, torch.float64, kl_coef, chunk_size=chunk)
    # A KL of 1e-8 is a difference of terms around 1, of which float64 leaves 8 digits.
    assert relative(ours, run(data, False, torch.float64, kl_coef)) <= (1e-6 if near else 1e-10)


@settings(max_examples=60)
@given(**SHAPES)
def test_bfloat16_is_within_2e_2_of_float64(t, v, k, kl_coef, chunk, sharp, spread, seed) -> None:
    data = make(t, v, k, seed, sharp, spread)
    rounded = {**data, **{name: data[name].bfloat16().float() for name in ("hidden", "head", "bias")}}
    ours = run(rounded, True, torch.bfloat16, kl_coef, upstream=1.0, chunk_size=chunk)
    assert relative(ours, run(rounded, False, torch.float64, kl_coef, upstream=1.0)) <= 2e-2


@pytest.mark.parametrize("seed", range(5))
def test_a_teacher_that_is_nearly_the_student_costs_fewer_digits_than_in_whole_logits(seed: int) -> None:
    # q - p is a hundredth of q: the rounding of a float32 logit is above 1e-5 of it, in whatever formulation.
    data = make(64, 300, 8, seed, near=True)
    truth = run(data, False, torch.float64, 1.0)
    plain = run(data, False, torch.float32, 1.0)
    ours = run(data, True, torch.float32, 1.0)
    assert relative(ours, truth) < relative(plain, truth) / 3
    assert relative(ours, truth) < 2e-4


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0])
@pytest.mark.parametrize("sharp", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("spread", [0.0, 15.0])
def test_gradients_are_finite_however_sure_student_and_teacher_are(scale: float, sharp: float, spread: float) -> None:
    data = make(16, 80, 4, 1, sharp, spread)
    data["head"] = data["head"] * scale
    assert all(item.isfinite().all() for item in run(data, True, torch.float32, 1.0))


def test_a_student_that_puts_almost_nothing_on_the_tail_pays_for_it() -> None:
    """Off the two candidates the student has e^-200, which float32 does not hold; the loss is linear in the 200."""
    data = make(1, 80, 2, 0)
    data["hidden"], data["head"] = torch.ones(1, H), torch.zeros(80, H)
    data["head"][:2] = 200.0 / H
    data |= {"ids": torch.tensor([[0, 1]]), "top": torch.tensor([[0.4, 0.4]]).log(), "tail": torch.tensor([0.2]).log()}
    data |= {"labels": torch.tensor([0]), "weights": torch.ones(1), "bias": torch.zeros(80)}
    ours = run(data, True, torch.float32, 1.0)
    assert ours[0] > 0.2 * 190
    assert relative(ours, run(data, False, torch.float64, 1.0)) <= 1e-5


def test_logprobs_rounded_to_float16_give_the_gradient_of_the_loss_as_it_stands() -> None:
    data = make(20, 200, 16, 7)
    data["top"], data["tail"] = data["top"].half().float(), data["tail"].half().float()
    assert relative(run(data, True, torch.float32, 1.0), run(data, False, torch.float64, 1.0)) <= 1e-5


def test_candidates_that_are_the_whole_vocabulary_leave_no_tail() -> None:
    data = make(12, 40, 40, 3)
    data["tail"] = torch.full((12,), -15.0)
    ours = run(data, True, torch.float32, 0.8)
    assert relative(ours, run(data, False, torch.float64, 0.8)) <= 1e-5


@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_padding_of_the_vocabulary_is_as_if_it_were_not_there(kl_coef: float) -> None:
    data = make(12, 90, 5, 2)
    padded = {**data, "head": torch.cat([data["head"], torch.full((10, H), float("nan"))])}
    padded["bias"] = torch.cat([data["bias"], torch.full((10,), 50.0)])
    plain = run(data, True, torch.float32, kl_coef)
    ours = run(padded, True, torch.float32, kl_coef, vocab_size=90)
    torch.testing.assert_close([*ours[:2], ours[2][:90], ours[3][:90]], plain)
    assert not ours[2][90:].any()
    assert not ours[3][90:].any()


def test_a_tail_that_is_not_given_is_the_rest_of_the_mass() -> None:
    data = make(10, 80, 6, 4)
    computed = run({**data, "tail": None}, True, torch.float32, 0.7)
    torch.testing.assert_close(computed, run(data, True, torch.float32, 0.7), atol=1e-6, rtol=1e-5)


def test_a_row_without_a_candidate_has_plain_nll_at_full_weight() -> None:
    data = make(10, 80, 6, 4)
    blank_ids = run({**data, "ids": torch.full_like(data["ids"], -1)}, True, torch.float32, 0.7)
    blank_logprobs = run({**data, "top": torch.full_like(data["top"], float("-inf"))}, True, torch.float32, 0.7)
    plain = run(data, True, torch.float32, 0.0)
    torch.testing.assert_close(blank_ids, plain, rtol=0, atol=0)
    torch.testing.assert_close(blank_logprobs, plain, rtol=0, atol=0)


def test_rows_that_teach_nothing_are_not_looked_at() -> None:
    data = make(20, 70, 3, 5)
    idle = (data["labels"] == -100) | (data["weights"] == 0)
    assert 0 < idle.sum() < 20
    spoiled = {name: data[name].clone() for name in data}
    spoiled["hidden"][idle], spoiled["top"][idle], spoiled["ids"][idle] = float("nan"), 5.0, 10**6
    torch.testing.assert_close(
        run(spoiled, True, torch.float32, 0.5), run(data, True, torch.float32, 0.5), rtol=0, atol=0
    )


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_only_the_ratio_of_weights_to_their_sum_counts(scale: float) -> None:
    data = make(20, 70, 3, 5)
    total = data["weights"].double().sum()
    scaled = {**data, "weights": data["weights"].double() * scale}
    ours = run(scaled, True, torch.float32, 0.5, denominator=total * scale)
    torch.testing.assert_close(ours, run(data, True, torch.float32, 0.5, denominator=total))


@pytest.mark.parametrize("masked", ["weights", "labels"])
def test_a_batch_that_teaches_nothing_has_loss_0_and_gradients_of_0(masked: str) -> None:
    data = make(8, 70, 3, 5)
    data[masked] = torch.full_like(data[masked], 0 if masked == "weights" else -100)
    ours = run(data, True, torch.float32, 0.5)
    assert all(item is not None and not item.any() for item in ours)
