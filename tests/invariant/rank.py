"""One rank of two: started by torchrun, trains on its half of each batch, and rank 0 writes the parameters."""

import sys
from pathlib import Path

import torch

from tests.invariant.training import trained, trainer_for

if __name__ == "__main__":
    data, out, normalization = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    trainer = trainer_for(
        out,
        [],
        data=data,
        kl_coef=0.5,
        weight_normalization=normalization,
        max_steps=2,
        per_device_train_batch_size=4,
        dtype=torch.float64,
    )
    parameters = trained(trainer)
    if trainer.is_world_process_zero():
        torch.save(parameters, out / "parameters.pt")
