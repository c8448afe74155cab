"""The compact teacher signal, on CPU: bytes in the file, error of the KL, decoding against a training step.

Synthetic distributions: the teacher's logits over V ids are -s log(rank + 1) plus normal noise of 1, with s drawn from
[1, 6] per token, from nearly flat to nearly certain; the student's are the teacher's plus normal noise. Candidates
and tail are exact, in float64. Ids are dealt to ranks at random, which leaves zstd nothing to gain. Real ones: the
demo's two models on texts of their domain, 29 ids.

Axis letters: N tokens, V vocabulary, K candidates.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from benchmarks._qwen import small_qwen
from benchmarks.claims import ROOT, claim, seconds
from vcrd.domains.demo_math import DOMAIN
from vcrd.io.parquet import read_table, write_table
from vcrd.losses import fused_weighted_loss
from vcrd.records import TRAINING
from vcrd.storage import SignalParams, decode_teacher_signal, encode_teacher_signal

V, K, SEEDS = 151_936, 16, (0, 1, 2)
KL_TOKENS, CHUNK, STUDENT_NOISES = 300, 50, (0.5, 1.0, 2.0)
FILE_TOKENS, FILE_RANKS, ROW_PREFIX, ROW_SUPERVISED = 30_000, 2_000, 120, 30
STEP_ROWS, STEP_LENGTH = 2, 256
DEMO_K, DEMO_TEXTS = 8, 100

Floats = NDArray[np.float64]


class Pair(NamedTuple):
    """Teacher's candidates and tail, and the student's log-probabilities of the same k + 1 classes, in float64."""

    ids_NK: NDArray[np.int64]
    teacher_NK: Floats
    teacher_tail_N: Floats
    student_NK: Floats
    student_tail_N: Floats

    def kl(self, teacher_NK: Floats, teacher_tail_N: Floats) -> Floats:
        """Return the KL of a teacher to the student over k + 1 classes, [N]."""
        head_NK = np.exp(teacher_NK) * (teacher_NK - self.student_NK)
        return np.asarray(head_NK.sum(axis=1) + np.exp(teacher_tail_N) * (teacher_tail_N - self.student_tail_N))


def pair_of(teacher_NV: Floats, student_NV: Floats, k: int) -> Pair:
    """Take the teacher's k likeliest ids and both models' tails off their logits."""
    logprobs = [logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) for logits in (teacher_NV, student_NV)]
    ids_NK = np.argpartition(-teacher_NV, k, axis=1)[:, :k]
    parts: list[Floats] = []
    for of_NV in logprobs:
        parts.append(np.take_along_axis(of_NV, ids_NK, axis=1))
        np.put_along_axis(of_NV, ids_NK, -np.inf, axis=1)
        parts.append(np.logaddexp.reduce(of_NV, axis=1))
    return Pair(ids_NK, *parts)


def synthetic(rng: np.random.Generator, tokens: int, ranks: int, noise: float) -> Pair:
    """Return pairs over `ranks` ids; see the head of this file."""
    made = []
    for start in range(0, tokens, CHUNK * V // ranks):
        shape = (min(CHUNK * V // ranks, tokens - start), ranks)
        sharpness_N1 = rng.uniform(1, 6, (shape[0], 1))
        teacher_NV = -sharpness_N1 * np.log(np.arange(ranks) + 1) + rng.normal(size=shape)
        made.append(pair_of(teacher_NV, teacher_NV + noise * rng.normal(size=shape), K))
    whole = Pair(*(np.concatenate(parts) for parts in zip(*made, strict=True)))
    return whole._replace(ids_NK=np.stack([rng.choice(V, K, replace=False) for _ in range(tokens)]))


def demo(seed: int) -> tuple[Pair, int]:
    """Return what the demo's student and teacher make of texts of their domain, and their vocabulary size."""
    tokenizer = DOMAIN.build_tokenizer()
    rows = [tokenizer.encode(prompt + text) for prompt, text in DOMAIN.pretraining_texts("teacher", DEMO_TEXTS, seed)]
    logits: list[Floats] = []
    for role in ("teacher", "student"):
        model = AutoModelForCausalLM.from_pretrained(ROOT / "data/models/demo-math" / role).eval()
        with torch.inference_mode():
            found = [model(torch.tensor([row])).logits[0].double().numpy() for row in rows]
        logits.append(np.concatenate(found))
    return pair_of(logits[0], logits[1], DEMO_K), len(tokenizer)


def table_of(pair: Pair, prefix: int, supervised: int) -> pa.Table:
    """Return plain columns: rows of `prefix` tokens without signal and `supervised` with it."""
    rows = len(pair.ids_NK) // supervised
    counts = np.tile(np.repeat([0, pair.ids_NK.shape[1]], [prefix, supervised]), rows)
    outer = pa.array(np.arange(rows + 1) * (prefix + supervised), pa.int32())
    inner = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    tail = np.zeros(len(counts), np.float32)
    tail[counts > 0] = pair.teacher_tail_N
    flat = [pa.array(pair.ids_NK.ravel(), pa.int32()), pa.array(pair.teacher_NK.ravel(), pa.float32())]
    columns = [pa.ListArray.from_arrays(inner, values) for values in flat] + [pa.array(tail)]
    names = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")
    schema = pa.schema([TRAINING.schema.field(name) for name in names])
    return pa.Table.from_arrays([pa.ListArray.from_arrays(outer, values) for values in columns], schema=schema)


def kl_error(pair: Pair, vocabulary: int) -> float:
    """Return the mean absolute error of the KL on the stored signal, in nats."""
    table = table_of(pair, 0, 1)
    back = decode_teacher_signal(encode_teacher_signal(table, SignalParams(vocabulary_size=vocabulary)))
    ids, logprobs = (back[name].combine_chunks().flatten().flatten().to_numpy() for name in table.column_names[:2])
    shape = pair.ids_NK.shape
    # Decoding orders candidates by likelihood; both sides are brought into the order of ids.
    back_to_NK = np.argsort(np.argsort(pair.ids_NK, axis=1), axis=1)
    order_NK = np.argsort(ids.reshape(shape), axis=1)
    stored_NK = np.take_along_axis(np.take_along_axis(logprobs.reshape(shape), order_NK, axis=1), back_to_NK, axis=1)
    tail_N = back["teacher_tail_logprob"].combine_chunks().flatten().to_numpy()
    exact = pair.kl(pair.teacher_NK, pair.teacher_tail_N)
    return float(np.abs(pair.kl(stored_NK.astype(np.float64), tail_N.astype(np.float64)) - exact).mean())


def bytes_per_token(path: Path, tokens: int) -> float:
    """Return what all columns of the signal take in a file, page headers included, per supervised token."""
    groups = [pq.read_metadata(path).row_group(index) for index in range(pq.read_metadata(path).num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    return float(sum(column.total_compressed_size for column in columns)) / tokens


class TrainingStep:
    """A step of a Qwen2 of 25 million parameters beside its embedding, every token supervised."""

    def __init__(self) -> None:
        """Build it with random weights."""
        torch.set_num_threads(2)
        self._model = small_qwen(V)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4)
        self._ids = torch.randint(0, V, (STEP_ROWS, STEP_LENGTH))
        tokens = self._ids.numel()
        top = torch.full((tokens, K), -4.0)
        self._signal: dict[str, Any] = {
            "teacher_topk_ids_TK": torch.stack([torch.randperm(V)[:K] for _ in range(tokens)]),
            "teacher_topk_logprobs_TK": top,
            "teacher_tail_logprob_T": torch.log(-torch.expm1(top.logsumexp(-1))),
        }

    @property
    def body(self) -> int:
        """Parameters beside the embedding."""
        return int(sum(item.numel() for item in self._model.parameters()) - self._model.lm_head.weight.numel())

    def __call__(self) -> None:
        """Forward, backward, update."""
        hidden_TH = self._model.model(input_ids=self._ids).last_hidden_state.flatten(0, 1)
        labels = self._ids.flatten()
        head = self._model.lm_head.weight
        loss = fused_weighted_loss(hidden_TH, head, labels, torch.ones(len(labels)), kl_coef=0.5, **self._signal)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def _read_and_decode(path: Path) -> None:
    decode_teacher_signal(read_table(path))


def main() -> bool:
    """Measure it all; one value per seed."""
    what = f"compact teacher signal, k={K}, V={V}"
    held = []
    step = TrainingStep()
    step()
    sizes, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            path = Path(folder) / f"{seed}.parquet"
            pair = synthetic(np.random.default_rng(seed), FILE_TOKENS, FILE_RANKS, 1.0)
            table = table_of(pair, ROW_PREFIX, ROW_SUPERVISED)
            write_table(path, encode_teacher_signal(table, SignalParams(vocabulary_size=V)))
            sizes.append(bytes_per_token(path, FILE_TOKENS))
            decoded = FILE_TOKENS / seconds(partial(_read_and_decode, path))
            ratios.append(decoded / (STEP_ROWS * STEP_LENGTH / seconds(step)))
    held.append(claim(f"{what}: bytes per supervised token in the file", sizes, 60, "lower"))
    for noise in STUDENT_NOISES:
        errors = [kl_error(synthetic(np.random.default_rng(seed), KL_TOKENS, V, noise), V) for seed in SEEDS]
        title = f"{what}: mean absolute error of the KL, student = teacher + noise {noise}, {KL_TOKENS} tokens a seed"
        held.append(claim(title, errors, 1e-3, "lower"))
    demos = [kl_error(*demo(seed)) for seed in SEEDS]
    title = f"compact teacher signal, the demo's models, k={DEMO_K}: mean absolute error of the KL"
    held.append(claim(title, demos, 1e-3, "lower"))
    title = (
        f"{what}: tokens read and decoded per second against a training step's ({step.body / 1e6:.1f} M + embedding)"
    )
    held.append(claim(title, ratios, 10, "higher"))
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
