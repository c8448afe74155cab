"""The fused loss is the plain one, in value and in every gradient, whatever the chunks, and holds no whole logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcrd.fused_loss import fused_weighted_loss
from vcrd.losses import weighted_loss

H = 16


def make(t: int, v: int, k: int, seed: int, sharp: float = 1.0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    teacher = (torch.randn(t, v, generator=generator, dtype=torch.float64) * sharp).log_softmax(-1)
    top, ids = teacher.topk(k, -1)
    tail = teacher.scatter(-1, ids, float("-inf")).logsumexp(-1)
    labels = torch.randint(0, v, (t,), generator=generator)
    labels[torch.rand(t, generator=generator) < 0.25] = -100
    weights = torch.rand(t, generator=generator, dtype=torch.float64) * 3
    weights[torch.rand(t, generator=generator) < 0.2] = 0
    blank = torch.rand(t, generator=generator) < 0.3
    ids[blank], top[blank] = -1, float("-inf")
    return {
        "hidden": torch.randn(t, H, generator=generator, dtype=torch.float64),
        "head": torch.randn(v, H, generator=generator, dtype=torch.float64) * 0.5,
        "bias": torch.randn(v, generator=generator, dtype=torch.float64),
        "labels": labels,
        "weights": weights,
        "ids": ids,
        "top": top,
        "tail": tail,
    }


def run(data: dict, fused: bool, dtype: torch.dtype, kl_coef: float, **options):
    """Return loss and gradients of hidden states, head and bias."""
    leaves = [data[name].detach().clone().to(dtype).requires_grad_() for name in ("hidden", "head", "bias")]
    signal = {
        "teacher_topk_ids_TK": data["ids"],
        "teacher_topk_logprobs_TK": data["top"].to(dtype),
        "teacher_tail_logprob_T": data["tail"].to(dtype),
    }
    hidden, head, bias = leaves
    rest = (data["labels"], data["weights"].to(dtype))
    if fused:
        loss = fused_weighted_loss(hidden, head, *rest, **signal, kl_coef=kl_coef, bias_V=bias, **options)
    else:
        loss = weighted_loss(hidden @ head.T + bias, *rest, **signal, kl_coef=kl_coef).loss
    (loss * 1.7).backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def relative(ours, theirs) -> float:
    return max(
        float(
            (a.double() - b.double()).norm() / b.double().norm().clamp_min(0.5)
        )  # where student and teacher agree all cancels
        for a, b in zip(ours, theirs, strict=True)
    )


@settings(max_examples=40)
@given(
    t=st.integers(1, 20),
    v=st.integers(70, 120),
    k=st.integers(1, 64),
    kl_coef=st.sampled_from([0.0, 0.3, 1.0]),
    chunk=st.sampled_from([1, 3, 7, "auto"]),
    sharp=st.sampled_from([0.1, 1.0, 8.0]),
    seed=st.integers(0, 10_000),
)
def test_value_and_gradients_are_the_plain_loss(t, v, k, kl_coef, chunk, sharp, seed) -> None:
    data = make(t, v, k, seed, sharp)
    reference = run(data, False, torch.float64, kl_coef)
    ours = run(data, True, torch.float32, kl_coef, chunk_size=chunk)
    assert all(item.isfinite().all() for item in ours)
    assert relative(ours, reference) < 1e-5


def test_bfloat16_is_as_good_as_bfloat16_is() -> None:
    data = make(64, 300, 8, 3)
    rounded = {name: value.bfloat16().double() if value.is_floating_point() else value for name, value in data.items()}
    assert relative(run(rounded, True, torch.bfloat16, 0.5), run(rounded, False, torch.float64, 0.5)) < 2e-2


@pytest.mark.parametrize("sharp", [30.0, 100.0])
def test_a_teacher_that_is_sure_leaves_gradients_finite(sharp: float) -> None:
    ours = run(make(16, 80, 4, 1, sharp), True, torch.float32, 1.0)
    assert all(item.isfinite().all() for item in ours)


def test_padding_of_the_vocabulary_is_as_if_it_were_not_there() -> None:
    data = make(12, 90, 5, 2)
    padded = {**data, "head": torch.cat([data["head"], torch.full((10, H), 9.0, dtype=torch.float64)])}
    padded["bias"] = torch.cat([data["bias"], torch.full((10,), 50.0, dtype=torch.float64)])
    plain = run(data, True, torch.float32, 0.5)
    ours = run(padded, True, torch.float32, 0.5, vocab_size=90)
    assert relative(ours[:2], plain[:2]) < 1e-6
    assert not ours[2][90:].any()
    assert not ours[3][90:].any()


def test_a_tail_that_is_not_given_is_the_rest_of_the_mass() -> None:
    data = make(10, 80, 6, 4)
    given_tail = run(data, True, torch.float32, 0.7)[0]
    arguments = [data[name].float() for name in ("hidden", "head")]
    computed = fused_weighted_loss(
        *arguments,
        data["labels"],
        data["weights"].float(),
        teacher_topk_ids_TK=data["ids"],
        teacher_topk_logprobs_TK=data["top"].float(),
        kl_coef=0.7,
        bias_V=data["bias"].float(),
    )
    torch.testing.assert_close(computed, given_tail, atol=1e-5, rtol=1e-5)


def test_rows_that_teach_nothing_cost_nothing_and_give_zero() -> None:
    data = make(8, 70, 3, 5)
    data["weights"] = torch.zeros_like(data["weights"])
    ours = run(data, True, torch.float32, 0.5)
    assert all(not item.any() for item in ours)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.full((8,), 70)}, "a label is 70, the vocabulary has 70"),
        ({"ids": torch.full((8, 3), 70)}, "a teacher id is 70"),
        ({"ids": torch.full((8, 3), 5), "top": torch.full((8, 3), -1.5)}, "occurs twice"),
        ({"weights": torch.ones(7)}, r"expected \[T, H\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict, message: str) -> None:
    data = make(8, 70, 3, 6)
    data["weights"] = torch.ones(8)
    data["labels"] = torch.zeros(8, dtype=torch.long)
    data["top"] = torch.full((8, 3), -1.5)
    with pytest.raises(ValueError, match=message):
        run({**data, **change}, True, torch.float32, 0.5)
