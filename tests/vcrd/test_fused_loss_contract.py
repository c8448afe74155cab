"""What the fused loss refuses, and how it behaves beside autograd, autocast and a trainer's log."""

import pytest
import torch

from tests.vcrd.loss_cases import make, run
from vcrd.losses import fused_weighted_loss
from vcrd.losses.chunks import rows_per_chunk

DATA = make(24, 70, 3, 6)
DATA["labels"] = DATA["labels"].clamp_min(0)
DATA["weights"] = DATA["weights"] + 0.5
KEPT = DATA["ids"][:, 0] >= 0
ROW = int(KEPT.nonzero()[0])


def call(data=DATA, *, hidden=None, head=None, kl_coef=0.5, **options):
    return fused_weighted_loss(
        data["hidden"] if hidden is None else hidden,
        data["head"] if head is None else head,
        data["labels"],
        data["weights"],
        teacher_topk_ids_TK=data["ids"],
        teacher_topk_logprobs_TK=data["top"],
        teacher_tail_logprob_T=data["tail"],
        kl_coef=kl_coef,
        **options,
    )


def changed(name: str, value: float) -> dict:
    """Return the data with one value in a row that has candidates."""
    tensor = DATA[name].clone()
    if tensor.ndim == 2:
        tensor[ROW, 1] = value
    else:
        tensor[ROW] = value
    return {**DATA, name: tensor}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", 70, r"labels_T: row \d+ holds 70; expected -100 or an id in \[0, 70\)"),
        ("labels", -1, r"labels_T: row \d+ holds -1"),
        ("weights", -0.5, r"token_weights_T: row \d+ holds -0.5; expected a finite weight of at least 0"),
        ("weights", float("nan"), "token_weights_T: .* holds nan"),
        ("weights", float("inf"), "token_weights_T: .* holds inf"),
        ("ids", 70, r"teacher_topk_ids_TK: row \d+ holds 70; expected -1 or an id in \[0, 70\)"),
        ("ids", -2, "teacher_topk_ids_TK: .* holds -2"),
        ("ids", int(DATA["ids"][ROW, 0]), "teacher_topk_ids_TK: .* expected each id once in a row"),
        ("top", float("nan"), "teacher_topk_logprobs_TK: .* holds nan"),
        ("top", 0.5, "teacher_topk_logprobs_TK: .* holds 0.5; expected a log-probability"),
        ("tail", float("nan"), "teacher_tail_logprob_T: .* holds nan"),
        ("tail", 0.5, "teacher_tail_logprob_T: .* holds 0.5"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_with_its_row(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call(changed(name, value))
    assert f"row {ROW} " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_coef": 1.5}, r"kl_coef must be in \[0, 1\], got 1.5"),
        ({"vocab_size": 71}, "vocab_size must be in .0, 70., the rows of the head; got 71"),
        ({"vocab_size": 0}, "vocab_size must be in"),
        ({"chunk_size": 0}, "chunk_size must be"),
        ({"chunk_size": "small"}, "chunk_size must be"),
        ({"denominator": 0.0}, "denominator: row 0 holds 0.0; expected a finite number above 0"),
        ({"denominator": torch.tensor(float("nan"))}, "denominator: .* holds nan"),
        ({"bias_V": torch.zeros(69)}, r"bias must be \[70\]"),
        ({"hidden": torch.zeros(24, 9)}, r"must be \[T, H\] and \[V, H\]"),
        ({"hidden": torch.zeros(23, 16)}, r"must be \[23\], a row each per prediction; got \[24\]"),
        ({"data": {**DATA, "top": DATA["top"][:, 1:]}}, r"must be \[24, K\], \[24, K\] and, if given, \[24\]"),
        ({"data": {**DATA, "tail": DATA["tail"][1:]}}, r"must be \[24, K\], \[24, K\] and, if given, \[24\]"),
        ({"data": {**DATA, "top": None}}, "come together"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(**options)


def test_a_second_backward_is_refused_rather_than_wrong() -> None:
    head = DATA["head"].clone().requires_grad_()
    loss = call(head=head)
    loss.backward(retain_graph=True)
    once = head.grad.clone()
    with pytest.raises(RuntimeError, match="handed out once"):
        loss.backward()
    torch.testing.assert_close(head.grad, once, rtol=0, atol=0)


def test_losses_add_up_in_one_backward_as_in_two() -> None:
    """Two uses of one head: its gradients are summed, as with tied embeddings."""
    grads = []
    for at_once in (True, False):
        head = DATA["head"].clone().requires_grad_()
        losses = [call(head=head), 3 * call(head=head, kl_coef=0.0)]
        if at_once:
            (losses[0] + losses[1]).backward()
        else:
            losses[0].backward()
            losses[1].backward()
        grads.append(head.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_what_is_frozen_gets_no_gradient_and_the_other_the_same(frozen: str) -> None:
    whole = run(DATA, True, torch.float32, 0.5, upstream=1.0)
    leaves = {name: DATA[name].clone().requires_grad_(name != frozen) for name in ("hidden", "head")}
    call(**leaves, bias_V=DATA["bias"]).backward()
    assert leaves[frozen].grad is None
    other = leaves["head" if frozen == "hidden" else "hidden"]
    torch.testing.assert_close(other.grad, whole[2 if frozen == "hidden" else 1])


def test_without_gradients_only_the_logits_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    head = DATA["head"].clone().requires_grad_()
    expected = call(head=head)
    monkeypatch.setattr("vcrd.losses.chunks.gradients", lambda *_: pytest.fail("formed gradients"))
    with torch.no_grad():
        loss = call(head=head)
    assert not loss.requires_grad
    assert loss == expected.detach()
    assert not call().requires_grad
    with torch.inference_mode():
        assert call(head=head) == loss


@pytest.mark.parametrize(("hidden", "head"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float32")])
def test_mixed_dtypes_are_computed_in_the_wider_and_gradients_come_back_in_their_own(hidden: str, head: str) -> None:
    leaves = {
        "hidden": DATA["hidden"].clone().to(getattr(torch, hidden)).requires_grad_(),
        "head": DATA["head"].clone().to(getattr(torch, head)).requires_grad_(),
    }
    wide = {name: leaf.detach().clone().float().requires_grad_() for name, leaf in leaves.items()}
    loss, expected = call(**leaves), call(**wide)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, leaf in leaves.items():
        assert leaf.grad.dtype == leaf.dtype
        torch.testing.assert_close(leaf.grad, wide[name].grad.to(leaf.dtype))


def test_autocast_does_not_lower_the_statistics() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call()
    assert inside.dtype == torch.float32
    assert inside == call()


def test_a_small_weight_in_bfloat16_is_summed_in_float32() -> None:
    """Rows of weight 1 and 256 of weight 1/256 in chunks of one: bfloat16 sums would lose each of the small ones."""
    hidden, head = torch.ones(257, 8, dtype=torch.bfloat16), torch.zeros(70, 8, dtype=torch.bfloat16).requires_grad_()
    weights = torch.full((257,), 1 / 256)
    weights[0] = 1.0
    labels = torch.zeros(257, dtype=torch.long)
    fused_weighted_loss(hidden, head, labels, weights, denominator=1.0, chunk_size=1).backward()
    torch.testing.assert_close(head.grad[0].float(), torch.full((8,), -2 * 69 / 70), rtol=1e-2, atol=0)


def test_the_head_gradient_is_handed_over_and_not_copied() -> None:
    head = DATA["head"].clone().requires_grad_()
    loss = call(head=head)
    address = loss.grad_fn.gradients[1].data_ptr()
    loss.backward()
    assert head.grad.data_ptr() == address


def test_pieces_are_sums_over_the_rows_and_do_not_depend_on_the_chunks() -> None:
    data = {**DATA, "labels": DATA["labels"].clone(), "weights": DATA["weights"].clone()}
    data["labels"][ROW + 1], data["weights"][ROW + 2] = -100, 0.0
    loss, pieces = call(data, return_pieces=True, bias_V=DATA["bias"])
    for whole, part in zip(pieces, call(data, return_pieces=True, bias_V=DATA["bias"], chunk_size=5)[1], strict=True):
        torch.testing.assert_close(whole, part)
    assert not any(piece.requires_grad for piece in pieces)

    active = (data["labels"] != -100) & (data["weights"] > 0)
    w = torch.where(active, data["weights"], 0.0).double()
    student = (data["hidden"].double() @ data["head"].double().T + data["bias"]).log_softmax(-1)
    nll = -student.gather(-1, data["labels"].clamp_min(0)[:, None]).squeeze(-1)
    held = torch.where(KEPT[:, None], student.gather(-1, data["ids"].clamp_min(0)), float("-inf"))
    assert pieces.n_supervised == 23
    assert pieces.weight_sum.item() == pytest.approx(w.sum().item())
    assert pieces.n_signal == (KEPT & active).sum()
    assert pieces.signal_weight_sum.item() == pytest.approx(w[KEPT].sum().item())
    assert pieces.nll_sum.item() == pytest.approx((w * nll).sum().item())
    assert pieces.teacher_mass_sum.item() == pytest.approx((w * data["top"].exp().sum(-1)).sum().item())
    assert pieces.overlap_sum.item() == pytest.approx((w * held.exp().sum(-1)).sum().item())
    mixed = 0.5 * (w * nll)[KEPT].sum() + (w * nll)[~KEPT].sum() + 0.5 * pieces.kl_sum
    assert loss.item() == pytest.approx(mixed.item() / 23)


def test_without_a_coefficient_there_is_no_signal_to_log() -> None:
    _, pieces = call(kl_coef=0.0, return_pieces=True)
    assert pieces.n_signal == pieces.kl_sum == pieces.teacher_mass_sum == pieces.overlap_sum == 0


@pytest.mark.parametrize(("rows", "expected"), [(2048, 410), (100, 100), (0, 1), (442, 221)])
def test_chunks_are_few_and_of_equal_size(rows: int, expected: int) -> None:
    assert rows_per_chunk("auto", rows, 151_936, torch.device("cpu")) == expected
