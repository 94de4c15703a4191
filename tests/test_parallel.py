"""Two processes that train together: the same losses, gradients and history as one process on the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import tiny_config
from safetensors.torch import load_file, save_file
from two_processes import WINDOWS, losses_and_gradients

from storylib.__main__ import main
from storylib.config import ConfigError, project_root
from storylib.parallel import ALONE, Group
from storylib.runs import Run
from storylib.training import EpochSampler, Shares, batches, build_model

# Two processes drop out other units than one, the other image decoder draws latents, and the feature term looks at
# every eighth picture of a process.
SURE = {"image_decoder": "upsampling", "feature_weight": 0.0}
CALM = {"dropout": 0.0, "feature_dropout": 0.0, "state_dropout": 0.0, **SURE}
CASES = {
    "case-infonce": SURE | {"contrastive_weight": 0.5},
    "case-siglip": SURE | {"contrastive_loss": "siglip", "image_weight": 0.0},
    "case-off": SURE | {"contrastive_weight": 0.0, "text_weight": 2.0},
}


def launch(*arguments: str, **environment: str) -> None:
    """Two processes on this machine's CPU, which talk through gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), *arguments]  # with --cpu it would start one process only
    paths = [str(project_root()), str(Path(__file__).parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def answers(tiny_data, tiny_sets, tmp_path_factory):
    """By case: what one process finds on the whole batch, and what two find on their shares of it."""
    folder, alone = tmp_path_factory.mktemp("shared"), {}
    for name, changes in CASES.items():
        config = tiny_config(**changes)
        model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
        tiny_sets["train"].embed_bank(model)
        batch = tiny_sets["train"].__getitems__(WINDOWS)
        save_file({k: v.contiguous() for k, v in batch.items()}, folder / "batch.safetensors")
        torch.save({"config": changes, "model": model}, folder / name)
        alone[name] = losses_and_gradients(model, batch, config.train)
    launch(str(Path(__file__).with_name("two_processes.py")), str(folder))
    return {name: (alone[name], load_file(folder / f"found-{name}.safetensors")) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_find_what_one_finds_on_the_whole_batch(answers, case):
    alone, together = answers[case]
    assert alone.keys() == together.keys() and len(alone) > 40
    assert ("loss/contrastive" in alone) == (case != "case-off")
    for name, value in alone.items():
        size = value.abs().max().clamp(min=1)  # float32 rounds a gradient of 100 at 1e-5
        assert (together[name] - value).abs().max() <= 1e-6 * size, name
    gradient = alone["text_projection.weight"]
    assert gradient.abs().max() > 1e-4  # there was something to agree on


def test_the_command_of_two_processes_leaves_the_run_of_one(tmp_path, monkeypatch):
    """The documented command, from drawn stories to the record; without dropout, history and weights agree."""
    arguments = ["--source", "storyworld", "--seed", "3", "--device", "cpu", "--set"]
    settings = {"stories": 12, "epochs": 2, "width": 16, "image_size": 16, "batch_size": 7, **CALM}
    arguments += [f"{name}={value}" for name, value in settings.items()]
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "one"))
    assert main(["train", *arguments]) == 0
    launch("-m", "storylib.training", *arguments, STORYLIB_RUNS=str(tmp_path / "two"))
    (one,), (two,) = ([p.parent for p in (tmp_path / name).glob("*/run.json")] for name in ("one", "two"))
    assert one.name == two.name and [Run(run).record["processes"] for run in (one, two)] == [1, 2]
    pd.testing.assert_frame_equal(*(Run(run).history.drop(columns="seconds") for run in (one, two)), rtol=1e-3)
    theirs = load_file(two / "model.safetensors")
    for name, value in load_file(one / "model.safetensors").items():
        assert torch.allclose(theirs[name], value, atol=2e-3), name


# ---- who gets what


def test_shares_are_the_batch_in_order():
    for size in (1, 2, 3, 5):
        parts = [list(Group(rank, size).share(range(13))) for rank in range(size)]
        assert [item for part in parts for item in part] == list(range(13))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_all_processes_take_the_same_number_of_batches(tiny_sets):
    whole = [b["target"].tolist() for b in batches(tiny_sets["train"], 5, EpochSampler(16, 0))]
    assert [len(b) for b in whole] == [5, 5, 5, 1]
    parts = [[b["target"].tolist() for b in batches(tiny_sets["train"], 5, EpochSampler(16, 0), Group(r, 2))]
             for r in (0, 1)]  # fmt: skip
    assert [a + b for a, b in zip(*parts, strict=True)] == whole[:3]  # the one left over waits for another epoch
    assert len(Shares(batches(tiny_sets["train"], 5).batch_sampler.whole, Group(1, 2))) == 3


def test_alone_nothing_is_gathered():
    rows = torch.ones(3, 2, requires_grad=True)
    assert ALONE.main and ALONE.gather(rows) is rows and ALONE.agree("x") == "x" and ALONE.collect(1) == [1]
    assert torch.equal(ALONE.weight(torch.tensor([4, 9])), torch.tensor([1.0, 1.0]))


def test_more_processes_than_windows_is_an_error(tiny_data, tiny_sets, tmp_path, monkeypatch):
    from storylib import training

    class Engine:
        process_index, num_processes = 0, 4

    monkeypatch.setattr(training, "accelerator", lambda *args: Engine)
    config = tiny_config(batch_size=3)
    with pytest.raises(ConfigError, match="batch_size=3 leaves some of 4 processes without a window"):
        training.Trainer(None, tiny_sets["train"], tiny_sets["validation"], config.train, tmp_path)
