"""A trunk: keys and values that many sequences share, and the sequences that go on from it, each with its own tail.

Axis letters: B sequences, H heads, K key-value heads, G query heads per key-value head, N trunk tokens, T tail tokens,
D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TRUNK_ATTENTION = "vcrd_trunk"
_ROOM = 64
IntArray = NDArray[np.integer[Any]]


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's cache in buffers with room ahead: a step writes its own tokens, and does not copy all before them."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Start without room."""
        super().lazy_initialization(key_states, value_states)
        self._length = 0
        self._buffers = [key_states[..., :0, :], value_states[..., :0, :]]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [B, K, T, D] each, and return all there is."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._length, self._length + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            length = end + max(_ROOM, end // 4) if start else end
            self._buffers = [_longer(buffer, start, length) for buffer in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start:end, :] = new
        self._length = end
        self._look()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these sequences."""
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._look()

    def _look(self) -> None:
        self.keys, self.values = (buffer[..., : self._length, :] for buffer in self._buffers)


def _longer(buffer: torch.Tensor, used: int, length: int) -> torch.Tensor:
    grown = buffer.new_empty(*buffer.shape[:-2], length, buffer.shape[-1])
    grown[..., :used, :] = buffer[..., :used, :]
    return grown


def growing_cache() -> Cache:
    """Return an empty cache of growing layers."""
    return Cache(layer_class_to_replicate=GrowingLayer)


@dataclass(slots=True)
class Trunk:
    """What the sequences of a batch share.

    Attributes:
        keys: Per layer, [K, N, D].
        values: Likewise.
        hidden_BN: Added to the scores: -inf where a sequence does not go through a token, 0 where it does.
    """

    keys: Sequence[torch.Tensor]
    values: Sequence[torch.Tensor]
    hidden_BN: torch.Tensor

    def attend(
        self, layer: int, query_BHD: torch.Tensor, key_BKTD: torch.Tensor, value_BKTD: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attend from one token per sequence to its part of the trunk and to its tail; return [B, H, D].

        The trunk is read once for all sequences, and no key-value head is repeated for its query heads.
        """
        batch, heads, _, width = key_BKTD.shape
        query_BKGD = (query_BHD * scaling).view(batch, heads, -1, width)
        shared_KBGD = query_BKGD.transpose(0, 1).reshape(heads, -1, width)
        shared_KBGN = torch.matmul(shared_KBGD, self.keys[layer].transpose(1, 2)).view(heads, batch, -1, self.size)
        shared_BKGN = shared_KBGN.transpose(0, 1) + self.hidden_BN[:, None, None, :]
        own_BKGT = torch.matmul(query_BKGD, key_BKTD.transpose(2, 3))
        weights = torch.cat([shared_BKGN, own_BKGT], -1).softmax(-1, dtype=torch.float32).to(query_BHD.dtype)
        shared_BKGN, own_BKGT = weights[..., : self.size], weights[..., self.size :]
        mixed_KBGD = torch.matmul(shared_BKGN.transpose(0, 1).reshape(heads, -1, self.size), self.values[layer])
        mixed_BKGD = mixed_KBGD.view(heads, batch, -1, width).transpose(0, 1) + torch.matmul(own_BKGT, value_BKTD)
        return mixed_BKGD.reshape(batch, -1, width)

    @property
    def size(self) -> int:
        """N."""
        return self.hidden_BN.shape[1]


def trunk_of(cache: Cache, paths: Sequence[tuple[int, IntArray]]) -> Trunk:
    """Gather what sequences go through from the cache of a batch of trees.

    Args:
        cache: Of the trees.
        paths: Per sequence, the row of its tree in the cache, and its tokens' places in the tree.
    """
    width = cache.layers[0].keys.shape[2]
    places = [tree * width + path for tree, path in paths]
    used_N = np.unique(np.concatenate(places))
    hidden_BN = np.full((len(places), len(used_N)), -np.inf, np.float32)
    for row, place in zip(hidden_BN, places, strict=True):
        row[np.searchsorted(used_N, place)] = 0
    first = cache.layers[0].keys
    tree_N, token_N = (torch.from_numpy(item).to(first.device) for item in np.divmod(used_N, width))
    return Trunk(
        keys=[layer.keys.transpose(0, 1)[:, tree_N, token_N] for layer in cache.layers],
        values=[layer.values.transpose(0, 1)[:, tree_N, token_N] for layer in cache.layers],
        hidden_BN=torch.from_numpy(hidden_BN).to(first.device, first.dtype),
    )


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    trunk: Trunk | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Stock SDPA, but where a batch goes on from a trunk; query [B, H, 1, D] there, result [B, 1, H, D]."""
    if trunk is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return trunk.attend(module.layer_idx, query[:, :, 0], key, value, scaling).unsqueeze(1), None


AttentionInterface.register(TRUNK_ATTENTION, _attention)
AttentionMaskInterface.register(TRUNK_ATTENTION, sdpa_mask)


class TrunkRows:
    """The sequences of a batch, decoded from a trunk."""

    def __init__(self, model: Any, trunk: Trunk, position_B: torch.Tensor) -> None:
        """Begin behind the trunk; `position_B` is where each sequence's next token stands."""
        self._model = model
        self._trunk = trunk
        self._position_B = position_B
        self._tails = growing_cache()

    def select(self, keep: torch.Tensor) -> None:
        """Go on with these sequences only."""
        self._tails.batch_select_indices(keep)
        self._position_B = self._position_B[keep]
        self._trunk.hidden_BN = self._trunk.hidden_BN[keep]

    def advance(self, chosen_B: torch.Tensor) -> torch.Tensor:
        """Append a token to every sequence and return the next one's logits, [B, V]."""
        output = self._model(
            input_ids=chosen_B.unsqueeze(-1),
            position_ids=self._position_B.unsqueeze(-1),
            past_key_values=self._tails,
            use_cache=True,
            trunk=self._trunk,
        )
        self._position_B = self._position_B + 1
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV
