"""Ten steps in float64 with frozen BatchNorm; the gradients of each and the last weights go to a file.

`python -m tests.training.ddp_steps FILE`, alone or under torchrun; together the processes take what one would.
"""

import sys

import torch

from drconv.training import Trainer, TrainingOptions, join_team
from tests.training.tiny import TinyData, TinyImages, make


def main(path: str) -> None:
    torch.manual_seed(0)
    options = TrainingOptions(epochs=1, batch_size=8, precision="float64", freeze_norm=True, warmup_steps=3, clip=0.1)
    with join_team("cpu") as team:
        model = make()
        model[9].p = 0.0  # type: ignore[index]
        trainer = Trainer(model, TinyData(train=TinyImages(80)), options, team=team)
        gradients = [
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            for _ in trainer.steps()
        ]
        record = trainer.finish_epoch(None)
        if team.leads:
            weights = dict(trainer.model.state_dict())
            torch.save({"gradients": gradients, "weights": weights, "record": record, "count": team.count}, path)


if __name__ == "__main__":
    main(sys.argv[1])
