"""Two processes that train together: the same losses, gradients and history as one process on the whole batch."""

from __future__ import annotations

import dataclasses
import os
import socket
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config
from safetensors.torch import load_file
from two_processes import CASES, WINDOWS, losses_and_gradients, train_tiny_run

from storylib import training
from storylib.config import ConfigError, project_root
from storylib.experiments.records import Run
from storylib.losses import ALONE

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def results(build, tiny_data, tiny_sets, tmp_path_factory):
    """What one process and two processes compute, in a folder each: losses and gradients, and a whole training.

    The two are started by the documented command's function; they talk through gloo, which needs no GPU.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser

    folder = tmp_path_factory.mktemp("shared")
    for name, changes in CASES.items():
        model = build(**changes)
        batch = tiny_sets["train"].__getitems__(WINDOWS)
        torch.save({"model": model, "batch": batch}, folder / f"{name}.case")
        torch.save(losses_and_gradients(model, batch, tiny_config(**changes).train), folder / f"{name}.one")
    features = tiny_data.features
    arrays = {name: np.array(getattr(features, name)) for name in ("image_vectors", "text_vectors", "thumbnails")}
    torch.save(dataclasses.replace(tiny_data, features=dataclasses.replace(features, **arrays)), folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(folder / "one"))
        train_tiny_run(tiny_data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    options += ["--dynamo_backend", "no", "--main_process_port", str(port)]
    options += [str(FOLDER / "two_processes.py"), str(folder)]
    # As a copy of this process, the launcher need not import torch; it computes nothing.
    launcher = get_context("fork").Process(target=launch_command, args=[launch_command_parser().parse_args(options)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(project_root()), str(FOLDER), str(FOLDER.parent)]))
        launcher.start()
        launcher.join()
    assert launcher.exitcode == 0, "see what the two processes wrote"
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
