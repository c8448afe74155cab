"""The loss on predictions: w_t [(1 - kl_coef) NLL_t + kl_coef KL_t], in plain lines and fused with the LM head."""

from vcrd.losses.fused import LossPieces, fused_weighted_loss
from vcrd.losses.reference import WeightedLoss, weighted_kl, weighted_loss, weighted_nll
from vcrd.losses.signal import IGNORED, exact_dtype, tail_logprob

__all__ = [
    "IGNORED",
    "LossPieces",
    "WeightedLoss",
    "exact_dtype",
    "fused_weighted_loss",
    "tail_logprob",
    "weighted_kl",
    "weighted_loss",
    "weighted_nll",
]
