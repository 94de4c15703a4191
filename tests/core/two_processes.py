"""Run by test_parallel.py in two processes: their shares of a batch, and a training.

accelerate launch --multi_gpu --num_processes 2 tests/core/two_processes.py FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from conftest import tiny_config

from storylib.experiments.runs import train
from storylib.losses import ALONE, Group
from storylib.training import Objective, accelerator

WINDOWS = [3, 0, 7, 9, 12, 5, 14]  # an odd number: the shares differ in size, and their texts in length
PER_WINDOW = ("image", "text", "image_id", "text_id", "story_id", "target", "image_excluded", "text_excluded")
PER_WINDOW += ("same_story", "tokens", "context_tokens", "picture", "context_pictures")
CASES = {
    "infonce": {"contrastive_weight": 0.5},
    "siglip": {"contrastive_loss": "siglip", "image_weight": 0.0},
    "off": {"contrastive_weight": 0.0, "text_weight": 2.0},
}


def losses_and_gradients(model, batch, config, engine=None, group=ALONE):
    """The mean losses over the processes, and the gradient of each parameter, by name."""
    model.eval()  # two processes would drop out other units than one
    network = Objective(model, config, group)
    network = engine.prepare(network).eval() if engine else network
    losses = network(batch)
    sum(losses.values()).backward()
    results = {f"loss/{name}": group.total(value.detach()) / group.size for name, value in losses.items()}
    return results | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def train_tiny_run(data):
    """Two epochs without dropout, with batches that two processes cannot share evenly."""
    calm = {"dropout": 0.0, "feature_dropout": 0.0, "state_dropout": 0.0, "batch_size": 7, "seed": 3}
    return train(tiny_config(**calm), data)


def main(folder: Path) -> None:
    engine = accelerator(tiny_config().train)
    group = Group(engine.process_index, engine.num_processes)
    assert group.size == 2 and torch.distributed.get_backend() == "gloo"
    first, last = (len(WINDOWS) * rank // 2 for rank in (group.rank, group.rank + 1))
    for name, changes in CASES.items():
        saved = torch.load(folder / f"{name}.case", weights_only=False)
        share = {key: value[first:last] if key in PER_WINDOW else value for key, value in saved["batch"].items()}
        results = losses_and_gradients(saved["model"], share, tiny_config(**changes).train, engine, group)
        if group.rank == 0:
            torch.save(results, folder / f"{name}.two")
    os.environ["STORYLIB_RUNS"] = str(folder / "two")
    train_tiny_run(torch.load(folder / "data", weights_only=False))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
