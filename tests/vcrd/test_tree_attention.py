"""A trie's nodes have the hidden states and gradients that their rows have alone, in stock models, in each form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from vcrd.trees import attention, build_trie
from vcrd.trees.attention import layout_of, tree_arguments, use_tree_attention
from vcrd.trees.support import prepare_for_trees

VOCABULARY = 16
ROWS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=10), min_size=1, max_size=6)


def tiny(kind: str, implementation: str) -> Any:
    """Build a random model of a stock architecture; `runs` has every run attended to by itself."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        sliding_window=None,
        pad_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    if implementation in ("dense", "runs"):
        use_tree_attention(model)
    else:
        model.set_attn_implementation(implementation)
    return model


def hidden_of_tree(model: Any, rows: list[list[int]]) -> list[torch.Tensor]:
    """Return each row's hidden states, [T, H], out of one pass."""
    trie = build_trie(rows)
    ids, depths = (torch.from_numpy(part)[None] for part in (trie.token_ids, trie.depths))
    hidden = model.base_model(
        input_ids=ids, position_ids=depths, use_cache=False, **tree_arguments(model, layout_of(trie))
    ).last_hidden_state[0]
    return [hidden[torch.from_numpy(nodes)] for nodes in trie.nodes]


def hidden_of_rows(model: Any, rows: list[list[int]]) -> list[torch.Tensor]:
    """Return the same, a pass for each row."""
    return [model.base_model(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in rows]


def gradients(model: Any, hidden: list[torch.Tensor]) -> torch.Tensor:
    """Return the gradients of a loss in which every hidden state counts differently."""
    model.zero_grad()
    sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in hidden).backward()  # type: ignore[union-attr]
    return torch.cat([weight.grad.flatten() for weight in model.base_model.parameters()])


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "dense", "runs"])
def test_hidden_states_and_gradients_equal_those_of_rows(
    kind: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_DENSE_NODES", 0 if implementation == "runs" else 512)
    model = tiny(kind, implementation)

    @settings(max_examples=15, deadline=None)
    @given(ROWS)
    def holds(rows: list[list[int]]) -> None:
        ours, theirs = hidden_of_tree(model, rows), hidden_of_rows(model, rows)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        expected = gradients(model, theirs)
        distance = (gradients(model, hidden_of_tree(model, rows)) - expected).norm()
        assert distance <= 1e-5 * max(float(expected.norm()), 0.5)

    holds()


def test_flex_attention_takes_the_block_mask() -> None:
    rng = np.random.default_rng(0)
    trunk = rng.integers(0, VOCABULARY, 100).tolist()
    rows = [[*trunk[:cut], *rng.integers(0, VOCABULARY, 30).tolist()] for cut in (10, 40, 99)] + [trunk]
    model = tiny("qwen2", "flex_attention")
    with torch.no_grad():
        ours = hidden_of_tree(model, rows)
        model.set_attn_implementation("sdpa")
        for one, other in zip(ours, hidden_of_rows(model, rows), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_without_a_layout_the_model_is_what_it_was() -> None:
    rows = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = tiny("qwen2", "sdpa")(input_ids=rows, attention_mask=mask).logits
    torch.testing.assert_close(tiny("qwen2", "runs")(input_ids=rows, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("kind", ["stablelm", "nemotron"])
def test_layers_that_hand_on_a_mask_alone_keep_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_DENSE_NODES", 0)
    model = tiny(kind, "sdpa")
    assert prepare_for_trees(model) is None
    rows = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 6, 7]]
    with torch.no_grad():
        for one, other in zip(hidden_of_tree(model, rows), hidden_of_rows(model, rows), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
