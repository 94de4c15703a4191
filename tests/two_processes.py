"""Run by test_parallel.py in several processes: one shared batch, and what each process makes of it.

accelerate launch --multi_gpu --num_processes 2 tests/two_processes.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from conftest import tiny_config
from safetensors.torch import load_file, save_file

from storylib.parallel import ALONE, Group, accelerator
from storylib.training import Objective

WINDOWS = [3, 0, 7, 9, 12, 5, 14]  # an odd number: the shares differ in size, and their texts in length


def losses_and_gradients(model, batch, config, engine=None, group=ALONE):
    """The mean losses over the processes, and the gradient of each parameter, by name."""
    model.eval()  # two processes would drop out other units than one
    network = Objective(model, config, group)
    network = engine.prepare(network).eval() if engine else network
    losses = network(batch)
    sum(losses.values()).backward()
    found = {f"loss/{name}": group.total(value.detach()) / group.size for name, value in losses.items()}
    return found | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def main(folder: Path) -> None:
    engine = accelerator("cpu")
    group = Group(engine.process_index, engine.num_processes)
    assert group.size == 2 and torch.distributed.get_backend() == "gloo"
    for case in sorted(folder.glob("case-*")):
        saved = torch.load(case, weights_only=False)
        config, model = tiny_config(**saved["config"]).train, saved["model"]
        shared = load_file(folder / "batch.safetensors")
        bank = {name: shared.pop(name) for name in ("image_bank", "text_bank", "candidates")}
        own = list(group.share(range(len(WINDOWS))))
        found = losses_and_gradients(model, bank | {k: v[own] for k, v in shared.items()}, config, engine, group)
        if group.main:
            save_file({k: v.contiguous() for k, v in found.items()}, folder / f"found-{case.name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
