"""Training a process reward model: a token-classification head on a student or teacher backbone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from vcrd.io.checkpoints import NO_CODE, ONLY_TENSORS
from vcrd.prm import PrmRow, PrmTrainParams
from vcrd.training.curve import CurvePoint, thinned, write_curve
from vcrd.training.pretrain import save

logging.disable_progress_bar()  # of reading and writing weights; the stage has its own
logging.set_verbosity_error()  # that a new head is not in the backbone's file is meant


def train_prm(
    base: str,
    revision: str | None,
    rows: Sequence[PrmRow],
    output_dir: Path,
    params: PrmTrainParams,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[float]:
    """Train on (ids, [(position, label)]) rows, save model, tokenizer and curve, and return the loss of every epoch.

    The loss is the mean cross-entropy over labelled positions, the two classes weighted equally in all.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, **NO_CODE)
    model = AutoModelForTokenClassification.from_pretrained(
        base, revision=revision, num_labels=2, dtype=torch.float32, **ONLY_TENSORS
    ).train()
    labels = [label for _, marks in rows for _, label in marks]
    share = sum(labels) / len(labels)
    class_weights = torch.tensor([0.5 / (1 - share), 0.5 / share])
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=0.01)
    per_epoch = -(-len(rows) // params.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=per_epoch * params.epochs)
    losses, points = [], list[CurvePoint]()
    for epoch in range(params.epochs):
        order = list(range(len(rows)))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        total = 0.0
        for start in range(0, len(order), params.batch_size):
            batch = [rows[index] for index in order[start : start + params.batch_size]]
            loss = _loss(model, batch, class_weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate, value = float(schedule.get_last_lr()[0]), float(loss.detach())
            learned = sum(len(marks) for _, marks in batch)
            points.append(CurvePoint(step=len(points) + 1, learning_rate=rate, loss=value, supervised_tokens=learned))
            schedule.step()
            total += value
            progress(len(batch))
        losses.append(total / per_epoch)
    save(model, tokenizer, output_dir)
    write_curve(output_dir, thinned(points))
    return losses


def _loss(model: Any, batch: Sequence[PrmRow], class_weights: torch.Tensor) -> torch.Tensor:
    width = max(len(ids) for ids, _ in batch)
    input_ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    targets = torch.full((len(batch), width), -100)
    for row, (ids, marks) in enumerate(batch):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        for position, label in marks:
            targets[row, position] = label
    logits = model(input_ids=input_ids, attention_mask=mask).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), weight=class_weights)
