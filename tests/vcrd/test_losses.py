"""The plain loss against lines that anyone can check, and the relations it must keep."""

import math

import pytest
import torch

from vcrd.losses import tail_logprob, weighted_kl, weighted_loss, weighted_nll

T, V, K = 7, 13, 4
ONES = torch.ones(T, dtype=torch.float64)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(T, V, generator=generator, dtype=torch.float64)
    teacher = torch.randn(T, V, generator=generator, dtype=torch.float64).log_softmax(-1)
    top, ids = teacher.topk(K, -1)
    tail = teacher.scatter(-1, ids, float("-inf")).logsumexp(-1)
    return {
        "logits": logits,
        "teacher": teacher,
        "labels": torch.tensor([1, 5, -100, 3, 12, 0, -100]),
        "weights": torch.tensor([1.0, 0.5, 0.0, 2.0, 0.0, 1.5, 0.0], dtype=torch.float64),
        "ids": ids,
        "top": top,
        "tail": tail,
    }


def teacher_of(batch, rows=slice(None)):
    return {
        "teacher_topk_ids_TK": batch["ids"][rows],
        "teacher_topk_logprobs_TK": batch["top"][rows],
        "teacher_tail_logprob_T": batch["tail"][rows],
    }


def kl_of(logits, batch, weights=ONES):
    return weighted_kl(logits, weights, batch["ids"], batch["top"], batch["tail"])


def test_nll_is_cross_entropy_times_weight(batch) -> None:
    expected = torch.nn.functional.cross_entropy(batch["logits"], batch["labels"], reduction="none")
    got = weighted_nll(batch["logits"], batch["labels"], batch["weights"])
    torch.testing.assert_close(got, batch["weights"] * expected)


def test_the_kl_is_the_sum_over_k_plus_one_classes_times_weight(batch) -> None:
    got = kl_of(batch["logits"], batch, batch["weights"])
    student = batch["logits"].softmax(-1)
    for row in range(T):
        kept = student[row, batch["ids"][row]]
        q = torch.cat([kept, (1 - kept.sum()).unsqueeze(0)])
        p = torch.cat([batch["top"][row].exp(), batch["tail"][row].exp().unsqueeze(0)])
        expected = batch["weights"][row] * (p * (p / q).log()).sum()
        assert got[row].item() == pytest.approx(expected.item(), abs=1e-10)


def test_the_kl_is_0_at_the_teacher_and_a_lower_bound_elsewhere(batch) -> None:
    at_teacher = kl_of(batch["teacher"], batch)
    torch.testing.assert_close(at_teacher, torch.zeros(T, dtype=torch.float64), atol=1e-12, rtol=0)
    full = (batch["teacher"].exp() * (batch["teacher"] - batch["logits"].log_softmax(-1))).sum(-1)
    bound = kl_of(batch["logits"], batch)
    assert (bound <= full + 1e-12).all()
    assert (bound > 0).all()


def test_the_gradient_is_q_minus_p_on_the_support_and_scaled_off_it(batch) -> None:
    logits = batch["logits"].clone().requires_grad_()
    kl_of(logits, batch).sum().backward()
    q = batch["logits"].softmax(-1)
    p_tail = batch["tail"].exp()
    q_tail = 1 - q.gather(-1, batch["ids"]).sum(-1)
    expected = q * (1 - p_tail / q_tail).unsqueeze(-1)
    expected.scatter_(-1, batch["ids"], q.gather(-1, batch["ids"]) - batch["top"].exp())
    torch.testing.assert_close(logits.grad, expected, atol=1e-10, rtol=1e-8)


def test_padding_candidates_change_nothing(batch) -> None:
    pad_ids = torch.full((T, 2), -1)
    pad_top = torch.full((T, 2), float("-inf"), dtype=torch.float64)
    ids, top = torch.cat([batch["ids"], pad_ids], -1), torch.cat([batch["top"], pad_top], -1)
    padded = weighted_kl(batch["logits"], ONES, ids, top, batch["tail"])
    torch.testing.assert_close(padded, kl_of(batch["logits"], batch))


def test_a_tail_that_is_not_given_is_the_rest_of_the_mass(batch) -> None:
    torch.testing.assert_close(tail_logprob(batch["top"]), batch["tail"])
    computed = weighted_kl(batch["logits"], ONES, batch["ids"], batch["top"])
    torch.testing.assert_close(computed, kl_of(batch["logits"], batch))


def test_candidates_that_hold_more_than_all_mass_leave_no_tail() -> None:
    rounded = torch.tensor([[math.log(0.5), math.log(0.5) + 1e-6]])
    assert tail_logprob(rounded).item() == float("-inf")


@pytest.mark.parametrize("tail", [float("-inf"), -20.0])
def test_a_support_that_is_the_vocabulary_has_no_tail_whatever_rounding_says(batch, tail: float) -> None:
    logits = batch["logits"].clone().requires_grad_()
    ids = torch.arange(V).expand(T, V)
    kl = weighted_kl(logits, ONES, ids, batch["teacher"], torch.full((T,), tail, dtype=torch.float64))
    kl.sum().backward()
    full = (batch["teacher"].exp() * (batch["teacher"] - batch["logits"].log_softmax(-1))).sum(-1)
    torch.testing.assert_close(kl, full)
    assert logits.grad.isfinite().all()


def test_weight_1_is_plain_cross_entropy(batch) -> None:
    got = weighted_loss(batch["logits"], batch["labels"], ONES)
    expected = torch.nn.functional.cross_entropy(batch["logits"], batch["labels"])
    torch.testing.assert_close(got.loss, expected)


def test_a_weight_of_0_equals_a_masked_label_in_value_and_gradient(batch) -> None:
    grads = []
    masked = batch["labels"].clone()
    masked[4] = -100
    for labels in (batch["labels"], masked):
        logits = batch["logits"].clone().requires_grad_()
        weighted_loss(logits, labels, batch["weights"], denominator=5, kl_coef=0.3, **teacher_of(batch)).loss.backward()
        grads.append(logits.grad)
    torch.testing.assert_close(*grads)
    assert not grads[0][4].any()


def test_weight_2_is_the_row_twice_under_the_sum_of_weights(batch) -> None:
    rows = [0, 1, 3, 3, 5]
    weights = batch["weights"].clone()
    weights[3] = 1.0
    doubled = weights.clone()
    doubled[3] = 2.0
    once = weighted_loss(batch["logits"], batch["labels"], doubled, denominator=doubled.sum())
    twice = weighted_loss(batch["logits"][rows], batch["labels"][rows], weights[rows], denominator=weights[rows].sum())
    torch.testing.assert_close(once.loss, twice.loss)


def test_all_zero_weights_give_zero_loss_and_finite_gradients(batch) -> None:
    logits = batch["logits"].clone().requires_grad_()
    got = weighted_loss(logits, batch["labels"], torch.zeros(T, dtype=torch.float64), kl_coef=0.5, **teacher_of(batch))
    got.loss.backward()
    assert got.loss.item() == 0
    assert not logits.grad.any()


def test_a_token_without_a_signal_has_plain_nll_at_full_weight(batch) -> None:
    signal = teacher_of(batch)
    signal["teacher_topk_ids_TK"] = torch.full_like(batch["ids"], -1)
    without = weighted_loss(batch["logits"], batch["labels"], batch["weights"], kl_coef=0.9, **signal)
    plain = weighted_loss(batch["logits"], batch["labels"], batch["weights"])
    torch.testing.assert_close(without.loss, plain.loss)


def test_the_pieces_add_up(batch) -> None:
    got = weighted_loss(batch["logits"], batch["labels"], batch["weights"], kl_coef=0.25, **teacher_of(batch))
    assert got.n_supervised == 5
    assert got.weight_sum == 5.0
    assert got.loss.item() == pytest.approx((0.75 * got.nll_sum + 0.25 * got.kl_sum).item() / 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_in_float32_whatever_the_logits(batch, dtype) -> None:
    low = batch["logits"].to(dtype)
    got = weighted_loss(low, batch["labels"], batch["weights"].float(), kl_coef=0.5, **teacher_of(batch))
    exact = weighted_loss(low.double(), batch["labels"], batch["weights"], kl_coef=0.5, **teacher_of(batch))
    assert got.loss.dtype == torch.float32
    assert math.isclose(got.loss.item(), exact.loss.item(), rel_tol=1e-5)


def test_what_does_not_fit_together_is_refused(batch) -> None:
    with pytest.raises(ValueError, match=r"must be \[6\], a row each per prediction; got \[7\]"):
        weighted_loss(batch["logits"][1:], batch["labels"], batch["weights"])
    with pytest.raises(ValueError, match=r"labels_T: row 0 holds 13; expected -100 or an id in \[0, 13\)"):
        weighted_loss(batch["logits"], batch["labels"] + 12, batch["weights"])
    with pytest.raises(ValueError, match="come together"):
        weighted_loss(batch["logits"], batch["labels"], batch["weights"], kl_coef=1, teacher_topk_ids_TK=batch["ids"])
