"""Training: one batch learned by heart, a kill survived exactly, the best epoch selected, and no picture opened."""

from __future__ import annotations

import copy
import importlib
import math
import multiprocessing
import os
import signal

import pandas as pd
import pytest
import torch
from conftest import tiny_config

from storylib import training
from storylib.config import ConfigError
from storylib.data.vocabulary import Vocabulary
from storylib.experiments.storyteller import Storyteller
from storylib.training import (
    SELECTION_LOSSES,
    DivergedError,
    Mean,
    adamw,
    fit,
    learning_rate_factor,
    load_weights,
    pretrain,
    save_weights,
)


@pytest.fixture
def start(build, tiny_sets, tmp_path):
    """Train a fresh model on the tiny stories: start("folder", epochs=2) -> Trainer."""

    def run(folder="run", **overrides):
        (tmp_path / folder).mkdir(exist_ok=True)
        config = tiny_config(**overrides).train
        return fit(build(**overrides), tiny_sets["train"], tiny_sets["validation"], config, tmp_path / folder)

    return run


def history(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def equal_weights(one, two):
    one, two = one.state_dict(), two.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# Schedules and sums


def test_the_learning_rate_warms_up_then_falls_to_zero():
    config = tiny_config(warmup=0.2).train
    factors = [learning_rate_factor(step, 10, config) for step in range(11)]
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(9))]
    assert factors == pytest.approx(expected)
    assert learning_rate_factor(0, 1, tiny_config(warmup=0.0).train) == 1.0


def test_only_matrices_decay(build):
    model = build()
    decay, rest = adamw(model, tiny_config(weight_decay=0.05).train).param_groups
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    assert len(decay["params"]) + len(rest["params"]) == len(list(model.parameters()))
    assert any(p is model.image_projection.weight for p in decay["params"])
    assert any(p is model.next_image.mixture.bias for p in rest["params"])


def test_means_weigh_batches_by_their_size():
    mean = Mean()
    mean.add({"a": torch.tensor(1.0)}, 3)
    mean.add({"a": torch.tensor(5.0)}, 1)
    assert mean.values() == {"a": 2.0}


# The loop


def test_a_single_batch_is_learned_by_heart(build, tiny_sets, tmp_path):
    settings = {"learning_rate": 5e-3, "dropout": 0.0, "feature_dropout": 0.0, "correction_rank": 24}
    config, model = tiny_config(**settings).train, build(**settings)
    batch = copy.copy(tiny_sets["train"])
    once = batch.windows[::2], batch.frames[::2]  # the first windows of 8 stories, 20 times per epoch
    batch.windows, batch.frames = once[0] * 20, once[1].repeat(20, 1)
    fit(model, batch, tiny_sets["validation"], config, tmp_path)
    batch.windows, batch.frames = once
    after = training.validate(model, batch, config)
    before = training.validate(build(**settings), batch, config)
    assert before.pop("frame_mrr") < after.pop("frame_mrr") > 0.9
    assert {name: after[name] < before[name] / 2 for name in before} == dict.fromkeys(before, True)
    assert after["text"] < 1 < 2 < before["text"]


@pytest.fixture(scope="module")
def undisturbed(build, tiny_sets, tmp_path_factory):
    """A training of three epochs that nothing interrupts, and its history."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = tiny_config(epochs=3).train
    return fit(build(epochs=3), tiny_sets["train"], tiny_sets["validation"], config, folder), history(folder)


def test_the_seed_decides_the_weights(start, undisturbed, tmp_path):
    whole, rows = undisturbed
    same, other = start("same", epochs=3), start("other", epochs=3, seed=1)
    assert equal_weights(whole.model, same.model) and rows.equals(history(tmp_path / "same"))
    assert not equal_weights(whole.model, other.model) and not rows.equals(history(tmp_path / "other"))


def killed_at(function, call, work):
    """Do some work in a process that SIGKILL ends just before a call of a function of ``training``."""
    original, calls = getattr(training, function), [0]

    def kill(*args, **options):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    def patched():
        setattr(training, function, kill)
        work()

    process = multiprocessing.get_context("fork").Process(target=patched)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("function", "call", "kept"),
    [
        ("compute_losses", 1, False),  # in the first batch; an epoch has two and one of validation
        ("compute_losses", 5, True),  # in the second epoch
        ("replace_atomically", 4, True),  # second epoch: weights and history are written, the checkpoint is not
    ],
)
def test_a_killed_training_ends_as_an_undisturbed_one(start, undisturbed, tmp_path, monkeypatch, function, call, kept):
    """And trains only the epochs again that were not whole."""
    killed_at(function, call, lambda: start(epochs=3))
    assert (tmp_path / "run" / "checkpoint.pt").exists() == kept
    compute, calls = training.compute_losses, []
    monkeypatch.setattr(training, "compute_losses", lambda *args: calls.append(1) or compute(*args))
    again, (whole, rows) = start(epochs=3), undisturbed
    assert len(calls) == (6 if kept else 9)
    assert equal_weights(whole.model, again.model) and whole.best_epoch == again.best_epoch
    assert rows.equals(history(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_no_process_loads_the_weights_before_they_are_written(build, tiny_sets, tmp_path, monkeypatch):
    """At the end every process waits for the main one, which alone writes."""
    events = []

    class Group(training.Group):
        def agree(self, value):
            events.append("wait")
            return value

    monkeypatch.setattr(training, "Group", Group)
    monkeypatch.setattr(training, "load_weights", lambda *_: events.append("load"))
    trainer = training.Trainer(build(), tiny_sets["train"], tiny_sets["validation"], tiny_config().train, tmp_path)
    trainer.epoch()
    events.clear()
    trainer.finish()
    assert events[:2] == ["wait", "load"]


def test_validation_neither_trains_nor_drops_out(build, tiny_sets):
    config, model = tiny_config(feature_dropout=0.9).train, build(feature_dropout=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (training.validate(model, tiny_sets["validation"], config) for _ in range(2))
    assert one == two and set(one) == {*SELECTION_LOSSES, "contrastive", "frame_mrr"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_loop_opens_no_picture_and_runs_no_encoder(start, monkeypatch):
    calls = []

    def count(name, original):
        return lambda *args, **kwargs: (calls.append(name), original(*args, **kwargs))[1]

    for path in (
        "PIL.Image.open", "PIL.Image.Image.resize", "storylib.data.pictures.open_picture",
        "storylib.data.features.open_picture", "storylib.data.features.load_image_encoder",
        "storylib.data.features.load_text_encoder", "storylib.data.encoders.load_image_encoder",
        "storylib.data.encoders.load_text_encoder", "storylib.data.encoders.ImageEncoder.embed",
        "storylib.data.encoders.TextEncoder.embed", "storylib.data.features.encode",
    ):  # fmt: skip
        owner, _, name = path.rpartition(".")
        target = _resolve(owner)
        monkeypatch.setattr(target, name, count(path, getattr(target, name)))
    start(epochs=1)
    assert calls == []
    _resolve("storylib.data.features").open_picture(_resolve("PIL.Image").new("RGB", (2, 2)))
    assert calls == ["storylib.data.features.open_picture"]  # the counting works


def _resolve(path):
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ["contrastive", *SELECTION_LOSSES])
def test_a_loss_that_is_off_is_not_in_the_history(start, tmp_path, name):
    start(epochs=1, **{f"{name}_weight": 0.0})
    on = {*SELECTION_LOSSES, "contrastive"} - {name}
    logged = {f"{part}_{loss}" for part in ("train", "validation") for loss in on}
    assert set(history(tmp_path / "run")) == logged | {"epoch", "validation_score", "validation_frame_mrr"}


def test_the_history_is_written_after_each_epoch(start, tmp_path, monkeypatch):
    validate, lines = training.validate, []

    def peek(*args):
        path = tmp_path / "run" / "history.csv"
        lines.append(len(path.read_text().splitlines()) if path.exists() else 0)
        return validate(*args)

    monkeypatch.setattr(training, "validate", peek)
    start(epochs=3)
    assert lines == [0, 2, 3]
    rows = history(tmp_path / "run")
    losses = rows[[f"validation_{name}" for name in SELECTION_LOSSES]]
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert rows["validation_score"].to_numpy() == pytest.approx(losses.sum(axis=1).to_numpy(), rel=1e-4)


# Selection of the best epoch


def test_the_best_epoch_is_kept_not_the_last(start, monkeypatch):
    scores, weights = iter([3.0, 1.0, 2.0]), []

    def validate(network, windows, config):
        weights.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"text": next(scores), "contrastive": 0.0, "frame_mrr": 0.5}

    monkeypatch.setattr(training, "validate", validate)
    done = start(epochs=3)
    kept = done.model.state_dict()
    assert done.best_epoch == 2 and all(torch.equal(kept[name], weights[1][name]) for name in kept)
    assert any(not torch.equal(kept[name], weights[2][name]) for name in kept)


@pytest.mark.parametrize("name", ["contrastive", "a_new_loss"])
def test_a_loss_that_only_one_arm_has_never_selects_the_epoch(start, monkeypatch, name):
    results = iter([{"text": 2.0, name: 1.0, "frame_mrr": 0.9}, {"text": 1.0, name: 9.0, "frame_mrr": 0.1}])
    monkeypatch.setattr(training, "validate", lambda *args: next(results))
    assert start(epochs=2).best_epoch == 2


def test_a_training_without_a_loss_to_select_by_is_refused(start):
    with pytest.raises(ConfigError, match="Turn on one of: next_image, next_text, text, image"):
        start(epochs=1, **{f"{name}_weight": 0.0 for name in SELECTION_LOSSES})


def test_validation_ranks_the_next_frame_as_the_evaluation_does(tiny_sets, tiny_runs):
    run = tiny_runs[1.0, 0]
    model = Storyteller.of_run(run).model
    tiny_sets["test"].embed_bank(model.image_space, model.text_space)
    validation = training.validate(model, tiny_sets["test"], run.config.train)
    assert validation["frame_mrr"] == pytest.approx(run.metrics["frame_mrr"]["value"], abs=1e-5)


# Divergence, clipping, precision, logs


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_stories(start, undisturbed, tmp_path, monkeypatch):
    """In the second epoch, at step 4: the stories of that batch are named, the first epoch's files stay."""
    compute, batches = training.compute_losses, []

    def poison(output, batch, *args):
        batches.append(batch)
        losses = compute(output, batch, *args)
        return losses | {"text": losses["text"] * torch.nan} if len(batches) == 5 else losses

    with monkeypatch.context() as patch:
        patch.setattr(training, "compute_losses", poison)
        with pytest.raises(DivergedError) as caught:
            start(epochs=3)
    message, checkpoint = str(caught.value), tmp_path / "run" / "checkpoint.pt"
    assert "The loss is nan at step 4" in message and f"of epoch 1, is {checkpoint}" in message
    assert "learning_rate (it is 0.001)" in message
    story_of = [f"s{i:02d}" for i in range(8) for _ in range(6)]
    named = {story_of[frame] for frame in batches[4]["target"].tolist()}
    assert named and all((story in message) == (story in named) for story in story_of)
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["step"] == 2 and all(v.isfinite().all() for v in saved["model"].values())
    assert equal_weights(start(epochs=3).model, undisturbed[0].model)  # after a passing fault it continues


def test_a_gradient_that_is_not_finite_stops_the_training_too(start, tmp_path):
    with pytest.raises(DivergedError, match=r"at step [12].*There is no good checkpoint yet.*learning_rate"):
        start(learning_rate=1e30, epochs=1)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_no_gradient_is_longer_than_the_limit(start, monkeypatch, clip):
    norms, step = [], torch.optim.AdamW.step

    def measure(self, *args):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in gradients]).norm())
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", measure)
    start(epochs=1, clip=clip, pretraining=0)
    assert len(norms) == 2
    assert max(norms) > 0.1 if clip == 0 else max(norms) == pytest.approx(clip, rel=1e-3)


def test_mixed_precision_learns_nearly_the_same(start, undisturbed, tmp_path):
    mixed, (full, rows) = start(epochs=3, precision="bf16"), undisturbed
    assert all(v.dtype == torch.float32 for v in mixed.model.state_dict().values() if v.is_floating_point())
    assert not equal_weights(full.model, mixed.model)
    scores = history(tmp_path / "run")["validation_score"].to_numpy()
    assert scores == pytest.approx(rows["validation_score"].to_numpy(), rel=0.02)
    with pytest.raises(ConfigError, match="'fp16' needs a GPU"):
        start("half", precision="fp16")


# The text decoder alone


def pretrained(model, tokens, **changes):
    pretrain(model.text_decoder, tokens, tiny_config(**changes).train, quiet=True)
    return model


def test_pretraining_makes_every_training_text_likelier(build, tiny_sets):
    tokens = tiny_sets["train"].tokens

    def nats(model):
        with torch.inference_mode():
            story = torch.zeros(len(tokens), 5, model.config.width)
            no_context = torch.full((len(tokens), 4, 1), Vocabulary.PAD)
            log_probabilities = model.eval().text_decoder(story, tokens, no_context)
        return -float(log_probabilities.sum() / (tokens != Vocabulary.PAD).sum())

    assert nats(pretrained(build(), tokens)) < nats(build()) - 0.5


def test_pretraining_depends_on_the_seed_and_changes_the_language_model_only(build, tiny_sets):
    tokens, before = tiny_sets["train"].tokens, build().state_dict()
    one, same, other = (pretrained(build(), tokens, pretraining=1, seed=s).state_dict() for s in (0, 0, 1))
    moved = {name for name in one if not torch.equal(one[name], before[name])}
    assert moved and all(name.startswith("text_decoder.lm.") for name in moved)  # not the prefix from the story
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in moved)


# Weights on disk


def test_weights_come_back_and_tied_ones_are_stored_once(build, tmp_path):
    from safetensors.torch import load_file

    one, two = build(seed=1), build(seed=2)
    assert not equal_weights(one, two)
    save_weights(one, tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == len({t.data_ptr() for t in one.state_dict().values()}) < len(one.state_dict())
    load_weights(two, tmp_path / "model.safetensors")
    assert equal_weights(one, two)
    lm = two.text_decoder.lm
    assert lm.lm_head.weight is lm.get_input_embeddings().weight
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("other", [{"temporal": "lstm"}, {"fusion": "gate"}, {"width": 32}])
def test_weights_of_another_model_are_refused(build, tmp_path, other):
    save_weights(build(), tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"in loading state_dict|size mismatch"):
        load_weights(build(**other), tmp_path / "model.safetensors")
