"""The loss against lines that anyone can check, and the relations it must keep."""

import math

import pytest
import torch

from vcrd.losses import nll, tail_bucket_kl, weighted_loss

T, V, K = 7, 13, 4


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


def test_nll_is_cross_entropy(batch) -> None:
    labels = batch["labels"].clamp_min(0)
    expected = torch.nn.functional.cross_entropy(batch["logits"], labels, reduction="none")
    torch.testing.assert_close(nll(batch["logits"], labels), expected)


def test_the_kl_is_the_sum_over_k_plus_one_classes(batch) -> None:
    got = tail_bucket_kl(batch["logits"], batch["ids"], batch["top"], batch["tail"])
    student = batch["logits"].softmax(-1)
    for row in range(T):
        kept = student[row, batch["ids"][row]]
        q = torch.cat([kept, (1 - kept.sum()).unsqueeze(0)])
        p = torch.cat([batch["top"][row].exp(), batch["tail"][row].exp().unsqueeze(0)])
        assert got[row].item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-10)


def test_the_kl_is_0_at_the_teacher_and_a_lower_bound_elsewhere(batch) -> None:
    at_teacher = tail_bucket_kl(batch["teacher"], batch["ids"], batch["top"], batch["tail"])
    torch.testing.assert_close(at_teacher, torch.zeros(T, dtype=torch.float64), atol=1e-12, rtol=0)
    full = (batch["teacher"].exp() * (batch["teacher"] - batch["logits"].log_softmax(-1))).sum(-1)
    bound = tail_bucket_kl(batch["logits"], batch["ids"], batch["top"], batch["tail"])
    assert (bound <= full + 1e-12).all()
    assert (bound > 0).all()


def test_the_gradient_is_q_minus_p_on_the_support_and_scaled_off_it(batch) -> None:
    logits = batch["logits"].clone().requires_grad_()
    tail_bucket_kl(logits, batch["ids"], batch["top"], batch["tail"]).sum().backward()
    q = batch["logits"].softmax(-1)
    p_tail = batch["tail"].exp()
    q_tail = 1 - q.gather(-1, batch["ids"]).sum(-1)
    expected = q * (1 - p_tail / q_tail).unsqueeze(-1)
    expected.scatter_(-1, batch["ids"], q.gather(-1, batch["ids"]) - batch["top"].exp())
    torch.testing.assert_close(logits.grad, expected, atol=1e-10, rtol=1e-8)


def test_padding_candidates_change_nothing(batch) -> None:
    pad_ids = torch.full((T, 2), -1)
    pad_top = torch.full((T, 2), float("-inf"), dtype=torch.float64)
    padded = tail_bucket_kl(
        batch["logits"], torch.cat([batch["ids"], pad_ids], -1), torch.cat([batch["top"], pad_top], -1), batch["tail"]
    )
    torch.testing.assert_close(padded, tail_bucket_kl(batch["logits"], batch["ids"], batch["top"], batch["tail"]))


def test_a_support_without_a_tail_has_finite_value_and_gradient(batch) -> None:
    logits = batch["logits"].clone().requires_grad_()
    ids = torch.arange(V).expand(T, V)
    kl = tail_bucket_kl(logits, ids, batch["teacher"], torch.full((T,), float("-inf"), dtype=torch.float64))
    kl.sum().backward()
    full = (batch["teacher"].exp() * (batch["teacher"] - batch["logits"].log_softmax(-1))).sum(-1)
    torch.testing.assert_close(kl, full)
    assert logits.grad.isfinite().all()


def test_weight_1_is_plain_cross_entropy(batch) -> None:
    got = weighted_loss(batch["logits"], batch["labels"], torch.ones(T, dtype=torch.float64))
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
    with pytest.raises(ValueError, match=r"expected \[T, V\]"):
        weighted_loss(batch["logits"][1:], batch["labels"], batch["weights"])
    with pytest.raises(ValueError, match="the vocabulary has 13"):
        weighted_loss(batch["logits"], batch["labels"] + 12, batch["weights"])
    with pytest.raises(ValueError, match="teacher_topk_logprobs"):
        weighted_loss(batch["logits"], batch["labels"], batch["weights"], kl_coef=1, teacher_topk_ids_TK=batch["ids"])
