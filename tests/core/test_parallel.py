"""Two processes that train together: the same losses, gradients and history as one process on the whole batch."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from accelerate import debug_launcher
from conftest import tiny_config
from safetensors.torch import load_file

from storylib import training
from storylib.config import ConfigError
from storylib.experiments.records import Run
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


def train_tiny_run(data, folder):
    """Two epochs without dropout, with batches that two processes cannot share evenly."""
    calm = {"dropout": 0.0, "feature_dropout": 0.0, "state_dropout": 0.0, "batch_size": 7, "seed": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(folder))
        train(tiny_config(**calm), data)


def one_of_two(cases, data, folder):
    """What each of two processes does: its share of each batch, and a training."""
    torch.set_num_threads(1)
    engine = accelerator(tiny_config().train)
    group = Group(engine.process_index, engine.num_processes)
    assert group.size == 2 and torch.distributed.get_backend() == "gloo"
    first, last = (len(WINDOWS) * rank // 2 for rank in (group.rank, group.rank + 1))
    for name, (model, batch) in cases.items():
        share = {key: value[first:last] if key in PER_WINDOW else value for key, value in batch.items()}
        results = losses_and_gradients(model, share, tiny_config(**CASES[name]).train, engine, group)
        if group.rank == 0:
            torch.save(results, folder / f"{name}.two")
    train_tiny_run(data, folder / "two")


@pytest.fixture(scope="module")
def results(build, tiny_data, tiny_sets, tmp_path_factory):
    """What one process and two processes compute, in a folder each: losses and gradients, and a whole training.

    The two are copies of this process; they talk through gloo, which needs no GPU.
    """
    folder = tmp_path_factory.mktemp("shared")
    cases = {name: (build(**changes), tiny_sets["train"].__getitems__(WINDOWS)) for name, changes in CASES.items()}
    debug_launcher(one_of_two, (cases, tiny_data, folder))
    for name, (model, batch) in cases.items():
        torch.save(losses_and_gradients(model, batch, tiny_config(**CASES[name]).train), folder / f"{name}.one")
    train_tiny_run(tiny_data, folder / "one")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_compute_what_one_computes_on_the_whole_batch(results, case):
    alone, together = (torch.load(results / f"{case}.{count}") for count in ("one", "two"))
    assert alone.keys() == together.keys() and len(alone) > 40
    assert ("loss/contrastive" in alone) == (case != "off")
    for name, value in alone.items():
        size = value.abs().max().clamp(min=1)  # float32 rounds a gradient of 100 at 1e-5
        assert (together[name] - value).abs().max() <= 1e-6 * size, name
    assert alone["text_projection.weight"].abs().max() > 1e-4  # the gradient is not zero


def test_a_training_of_two_processes_leaves_the_run_of_one(results):
    """Without dropout, history and weights agree."""
    (one,), (two,) = ([p.parent for p in (results / name).glob("*/run.json")] for name in ("one", "two"))
    assert one.name == two.name and [Run(run).record["processes"] for run in (one, two)] == [1, 2]
    pd.testing.assert_frame_equal(*(Run(run).history.drop(columns="seconds") for run in (one, two)), rtol=1e-3)
    weights = load_file(two / "model.safetensors")
    for name, value in load_file(one / "model.safetensors").items():
        assert torch.allclose(weights[name], value, atol=2e-3), name


def test_a_single_process_gathers_nothing():
    rows = torch.ones(3, 2, requires_grad=True)
    assert ALONE.rank == 0 and ALONE.gather(rows) is rows and ALONE.agree("x") == "x" and ALONE.collect(1) == [1]


def test_more_processes_than_windows_is_an_error(tiny_sets, tmp_path, monkeypatch):
    class Engine:
        process_index, num_processes = 0, 4

    monkeypatch.setattr(training, "accelerator", lambda *args: Engine)
    config = tiny_config(batch_size=3).train
    with pytest.raises(ConfigError, match="batch_size=3 leaves some of 4 processes without a window"):
        training.Trainer(None, tiny_sets["train"], tiny_sets["validation"], config, tmp_path)
