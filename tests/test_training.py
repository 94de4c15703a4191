"""Training: batches by hand, one batch learned by heart, a kill survived exactly, and no picture opened."""

from __future__ import annotations

import copy
import importlib
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config

from benchmarks.kill_and_resume import killed, left_by
from storylib import training
from storylib.config import ConfigError
from storylib.decoders import Vocabulary
from storylib.losses import compute_losses
from storylib.runs import evaluate_run, train
from storylib.stories import windows
from storylib.training import (
    DivergedError,
    EpochSampler,
    Mean,
    WindowDataset,
    batches,
    build_model,
    cpu_threads,
    fit,
    learning_rate_factor,
    load_weights,
    parameter_groups,
    pick_device,
    save_weights,
)


@pytest.fixture
def start(tiny_data, tiny_sets, tmp_path):
    """Train a fresh model on the tiny stories: start("folder", epochs=2) -> Fit."""

    def run(folder: str = "run", **overrides):
        config = tiny_config(**overrides)
        (tmp_path / folder).mkdir(exist_ok=True)
        model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
        return fit(model, tiny_sets["train"], tiny_sets["validation"], config.train, tmp_path / folder)

    return run


def history(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def equal_weights(one, two) -> bool:
    mine, theirs = one.state_dict(), two.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


# ---- batches


def test_a_batch_holds_what_the_stories_hold(tiny_data, tiny_sets):
    dataset, features = tiny_sets["test"], tiny_data.features
    pages = [(s, f) for s in tiny_data.splits.test for f in s.frames]
    found = list(windows(tiny_data.splits.test, 4))
    assert len(dataset) == len(found) == 8 and dataset.keys == [(s.id, f.page) for s, f in pages]
    batch = dataset.__getitems__([5, 0])
    for row, window in enumerate((found[5], found[0])):
        for column, frame in enumerate((*window.context, window.target)):
            at = features.row[window.story.id, frame.page]
            assert np.array_equal(batch["image"][row, column], features.image_vectors[features.image_of[at]])
            assert np.array_equal(batch["text"][row, column], features.text_vectors[features.text_of[at]])
        small = torch.from_numpy(np.array(features.thumbnails[features.image_of[at]])).permute(2, 0, 1) / 255
        assert torch.allclose(batch["picture"][row], small)
        assert dataset.keys[batch["target"][row]] == (window.story.id, window.target.page)
        true = tiny_sets["vocabulary"].encode([window.target.text], 16)[0]
        real = batch["tokens"][row] != -100
        assert torch.equal(batch["tokens"][row][real], true[true != Vocabulary.PAD])
        assert torch.equal(
            batch["context_tokens"][row], tiny_sets["vocabulary"].encode([f.text for f in window.context], 16)
        )
    assert batch["context_pictures"].shape == (2, 4, 3, 16, 16)


def test_the_context_and_copies_of_the_target_are_excluded(tiny_data, tiny_sets):
    dataset = tiny_sets["test"]
    pages = [(s, f) for s in tiny_data.splits.test for f in s.frames]
    batch = dataset.__getitems__(range(8))
    copies = 0
    for row, window in enumerate(windows(tiny_data.splits.test, 4)):
        for column, (story, frame) in enumerate(pages):
            own = story is window.story and frame in window.context
            image = frame.image.tobytes() == window.target.image.tobytes()
            text = frame.text == window.target.text
            assert batch["image_excluded"][row, column] == (own or image)
            assert batch["text_excluded"][row, column] == (own or text)
            copies += image and story is not window.story
    assert copies == 4  # two pairs of stories end on the same picture


def test_a_batch_of_many_stories_chooses_among_some_pages_and_all_of_its_own(tiny_data, tiny_sets):
    config = tiny_config()
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"]).eval()
    dataset = WindowDataset(tiny_data.features, tiny_data.splits.train, tiny_sets["vocabulary"], config)
    dataset.embed_bank(model)
    indices = [1, 0]  # two windows of the first story
    whole = dataset.__getitems__(indices)
    own = [page for page, (story, _) in enumerate(dataset.keys) if story == dataset.windows[0].story.id]
    count = len(own) + 6
    dataset.embed_bank(model, count)
    some, again, other = (dataset.__getitems__(i) for i in (indices, indices, [0, 1]))
    pages = some["candidates"]
    assert len(set(pages.tolist())) == len(pages) == count < len(dataset.keys) and set(own) <= set(pages.tolist())
    assert torch.equal(pages, pages.sort().values)
    assert torch.equal(pages, again["candidates"]) and not torch.equal(pages, other["candidates"])
    assert torch.equal(pages[some["target"]], whole["candidates"][whole["target"]])
    for name, value in some.items():
        if name.endswith("_bank"):
            assert torch.equal(value, whole[name][pages])
        elif name.endswith("_excluded") or name == "same_story":
            assert torch.equal(value, whole[name][:, pages])
        elif name not in ("target", "candidates"):
            assert torch.equal(value, whole[name])
    few, all_of_them = (
        compute_losses(model(batch), batch, config.train)["next_image"].item() for batch in (some, whole)
    )
    assert few < all_of_them  # it has fewer rivals
    dataset.embed_bank(model, 1)
    assert dataset.__getitems__(indices)["candidates"].tolist() == own


def test_one_window_is_a_batch_of_one(tiny_sets):
    one, many = tiny_sets["train"][3], tiny_sets["train"].__getitems__([3])
    assert all(torch.equal(one[k], many[k]) for k in many)


def test_an_epoch_shows_every_window_once_in_a_new_order(tiny_sets):
    sampler = EpochSampler(16, seed=1)
    orders = []
    for sampler.epoch in (0, 1, 0):
        loader = batches(tiny_sets["train"], 5, sampler)
        sizes = [len(b["target"]) for b in loader]
        assert sizes == [5, 5, 5, 1]
        orders.append(torch.cat([b["target"] for b in loader]).tolist())
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(tiny_sets["train"].frames[:, -1].tolist())
    assert list(EpochSampler(16, 1)) != list(EpochSampler(16, 2))


# ---- schedules and sums


def test_the_learning_rate_warms_up_then_falls_to_zero():
    config = tiny_config(warmup=0.2).train
    factors = [learning_rate_factor(step, 10, config) for step in range(11)]
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(9))]
    assert factors == pytest.approx(expected)
    assert learning_rate_factor(0, 1, tiny_config(warmup=0.0).train) == 1.0


def test_only_matrices_decay(tiny_data, tiny_sets):
    model = build_model(tiny_config(), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    decay, rest = parameter_groups(model, 0.05)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    assert len(decay["params"]) + len(rest["params"]) == len(list(model.parameters()))
    assert any(p is model.image_projection.weight for p in decay["params"])
    assert any(p is model.next_image.mixture.bias for p in rest["params"])


def test_means_weigh_batches_by_their_size():
    mean = Mean()
    mean.add({"a": torch.tensor(1.0)}, 3)
    mean.add({"a": torch.tensor(5.0)}, 1)
    assert mean.values() == {"a": 2.0}


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


# ---- devices


def test_a_gpu_that_is_absent_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"device='{name}' was asked for.*device='cpu' or 'auto'"):
            pick_device(name)


def test_the_fastest_device_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"


# ---- the loop


def test_a_single_batch_is_learned_by_heart(tiny_data, tiny_sets, tmp_path):
    config = tiny_config(epochs=2, learning_rate=5e-3, dropout=0.0, feature_dropout=0.0, correction_rank=24)
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    batch = copy.copy(tiny_sets["train"])
    once = batch.windows[::2], batch.frames[::2]  # the first windows of 8 stories, 20 times an epoch
    batch.windows, batch.frames = once[0] * 20, once[1].repeat(20, 1)
    fit(model, batch, tiny_sets["validation"], config.train, tmp_path)
    batch.windows, batch.frames = once
    after = training.validate(model, batches(batch, 8), config.train)
    untrained = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    before = training.validate(untrained, batches(batch, 8), config.train)
    assert before.pop("page_mrr") < after.pop("page_mrr") > 0.9
    assert {name: after[name] < before[name] / 2 for name in before} == dict.fromkeys(before, True)
    assert after["text"] < 1 < 2 < before["text"]


def test_the_same_seed_gives_the_same_weights(start, tmp_path):
    one, two, other = start("one"), start("two"), start("other", seed=1)
    assert equal_weights(one.model, two.model)
    assert not equal_weights(one.model, other.model)
    assert history(tmp_path / "one").equals(history(tmp_path / "two"))
    assert not history(tmp_path / "one").equals(history(tmp_path / "other"))


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def whole(tiny_data, tiny_sets, tmp_path_factory):
    """A training of three epochs that nothing disturbs, and its history."""
    config, folder = tiny_config(epochs=3), tmp_path_factory.mktemp("whole")
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    return fit(model, tiny_sets["train"], tiny_sets["validation"], config.train, folder), history(folder)


@pytest.mark.parametrize("kill_at", [1, 4, 6], ids=["first epoch", "second epoch", "validation"])
def test_a_killed_training_ends_as_if_nothing_had_happened(start, whole, tmp_path, monkeypatch, kill_at):
    count, compute = [0], training.compute_losses

    def kill(*args):
        count[0] += 1
        if count[0] == kill_at:  # an epoch is two batches and one validation
            raise Killed
        return compute(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "compute_losses", kill)
        with pytest.raises(Killed):
            start("killed", epochs=3)
    assert (tmp_path / "killed" / "checkpoint.pt").exists() == (kill_at > 3)
    again = start("killed", epochs=3)
    assert equal_weights(whole[0].model, again.model) and whole[0].best_epoch == again.best_epoch
    assert whole[1].equals(history(tmp_path / "killed"))
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_sigkill_at_a_random_moment_changes_nothing(tiny_data, tmp_path, monkeypatch):
    """Three trainings in processes of their own, each killed once without warning: equal to the last byte."""
    config = tiny_config(epochs=6)

    def work(folder):
        monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / folder))
        return train(config, tiny_data)

    start = time.perf_counter()
    whole = work("whole")
    seconds = time.perf_counter() - start
    expected = left_by(evaluate_run(whole, tiny_data))
    struck = 0
    for number, share in enumerate(np.random.default_rng(0).uniform(0, 1, 3)):
        struck += killed(lambda folder=f"killed-{number}": work(folder), share * seconds)
        assert left_by(evaluate_run(work(f"killed-{number}"), tiny_data)) == expected
    assert struck  # on a busy machine the last may be done before its moment


def test_only_whole_epochs_are_trained_again(start, monkeypatch):
    compute, calls = training.compute_losses, []

    def kill(*args):
        calls.append(1)
        if len(calls) == 5:
            raise Killed
        return compute(*args)

    monkeypatch.setattr(training, "compute_losses", kill)
    with pytest.raises(Killed):
        start(epochs=3)
    calls.clear()
    calls += [1] * 10  # no further kill
    start(epochs=3)
    assert len(calls) - 10 == 2 * 3  # epochs two and three; the first is kept


def test_the_best_epoch_is_kept_not_the_last(start, monkeypatch, tmp_path):
    scores = iter([3.0, 1.0, 2.0])
    weights = []

    def validate(network, loader, config):
        weights.append({k: v.clone() for k, v in network.state_dict().items()})
        return {"text": next(scores), "contrastive": 0.0, "page_mrr": 0.5}

    monkeypatch.setattr(training, "validate", validate)
    done = start(epochs=3)
    assert done.best_epoch == 2
    found = done.model.state_dict()
    assert all(torch.equal(found[k], weights[1][k]) for k in found)
    assert any(not torch.equal(found[k], weights[2][k]) for k in found)


def test_arms_are_judged_by_the_losses_they_share(start, monkeypatch):
    answers = iter(
        [{"text": 2.0, "contrastive": 1.0, "page_mrr": 0.9}, {"text": 1.0, "contrastive": 9.0, "page_mrr": 0.1}]
    )
    monkeypatch.setattr(training, "validate", lambda *args: next(answers))
    assert start(epochs=2).best_epoch == 2


def test_validation_neither_learns_nor_drops_out(tiny_data, tiny_sets):
    config = tiny_config(feature_dropout=0.9)
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    held = tiny_sets["validation"]
    held.embed_bank(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one, two = (training.validate(model, batches(held, 2), config.train) for _ in range(2))
    assert one == two and set(one) == {"next_image", "next_text", "text", "image", "contrastive", "page_mrr"}
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_loop_opens_no_picture_and_runs_no_encoder(start, monkeypatch):
    calls = []

    def count(name, original):
        return lambda *args, **kwargs: (calls.append(name), original(*args, **kwargs))[1]

    for path in (
        "PIL.Image.open", "PIL.Image.Image.resize", "storylib.pictures.open_picture", "storylib.features.open_picture",
        "storylib.encoders.open_picture", "storylib.features.load_image_encoder",
        "storylib.features.load_text_encoder", "storylib.encoders.load_image_encoder",
        "storylib.encoders.load_text_encoder", "storylib.encoders.ImageEncoder.embed",
        "storylib.encoders.TextEncoder.embed", "storylib.features.encode",
    ):  # fmt: skip
        owner, _, name = path.rpartition(".")
        target = _resolve(owner)
        monkeypatch.setattr(target, name, count(path, getattr(target, name)))
    start()
    assert calls == []
    _resolve("storylib.features").open_picture(_resolve("PIL.Image").new("RGB", (2, 2)))
    assert calls == ["storylib.features.open_picture"]  # the counting works


def _resolve(path: str):
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ["contrastive", "image", "text", "next_image", "next_text"])
def test_a_loss_that_is_off_is_not_in_the_history(start, tmp_path, name):
    start(epochs=1, **{f"{name}_weight": 0.0})
    columns = set(history(tmp_path / "run"))
    everything = {"next_image", "next_text", "text", "image", "contrastive"}
    logged = {f"{part}_{n}" for part in ("train", "validation") for n in everything - {name}}
    assert columns == logged | {"epoch", "validation_score", "validation_page_mrr"}


def test_the_history_is_written_as_it_goes(start, tmp_path, monkeypatch):
    validate, lines = training.validate, []

    def peek(*args):
        path = tmp_path / "run" / "history.csv"
        lines.append(len(path.read_text().splitlines()) if path.exists() else 0)
        return validate(*args)

    monkeypatch.setattr(training, "validate", peek)
    start(epochs=3)
    assert lines == [0, 2, 3]
    rows = history(tmp_path / "run")
    shared = [f"validation_{n}" for n in ("next_image", "next_text", "text", "image")]
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert rows["validation_score"].to_numpy() == pytest.approx(rows[shared].sum(axis=1).to_numpy(), rel=1e-4)


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_no_windows_is_an_error(tiny_data, tiny_sets, tmp_path, empty):
    config = tiny_config()
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    nothing = WindowDataset(tiny_data.features, [], tiny_sets["vocabulary"], config)
    assert len(nothing) == 0
    sets = {"train": tiny_sets["train"], "validation": tiny_sets["validation"]} | {empty: nothing}
    with pytest.raises(ConfigError, match="no window to train or validate on"):
        fit(model, sets["train"], sets["validation"], config.train, tmp_path)


def test_a_loss_that_is_no_number_stops_at_once_and_says_where(start, tiny_data, tmp_path, monkeypatch):
    """In the second epoch, at step 4: the stories of that batch are named, the first epoch's files stay."""
    compute, seen = training.compute_losses, []

    def poison(out, batch, *args):
        seen.append(batch)
        losses = compute(out, batch, *args)
        return losses | {"text": losses["text"] * torch.nan} if len(seen) == 5 else losses  # 2 + 1 to validate + 2

    with monkeypatch.context() as patch:
        patch.setattr(training, "compute_losses", poison)
        with pytest.raises(DivergedError) as caught:
            start(epochs=3)
    message, checkpoint = str(caught.value), tmp_path / "run" / "checkpoint.pt"
    assert "The loss is nan at step 4" in message and f"of epoch 1, is {checkpoint}" in message
    assert "learning_rate (it is 0.001)" in message
    pages = [f"s{i:02d}" for i in range(8) for _ in range(6)]
    named = {pages[page] for page in seen[4]["target"].tolist()}
    assert all((f"s{i:02d}" in message) == (f"s{i:02d}" in named) for i in range(8)) and named
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["step"] == 2 and all(v.isfinite().all() for v in saved["model"].values())
    assert equal_weights(start(epochs=3).model, start("whole", epochs=3).model)  # a passing fault: it simply goes on


def test_a_gradient_that_is_no_number_stops_too(start, tmp_path):
    with pytest.raises(DivergedError, match=r"at step [12].*There is no good checkpoint yet.*learning_rate"):
        start(learning_rate=1e30, epochs=1)
    assert not (tmp_path / "run" / "model.safetensors").exists()


# ---- accumulation, clipping, precision, early stopping, logs


def test_accumulated_batches_make_the_step_of_their_mean(start, monkeypatch):
    """Two batches of eight without a contrastive loss weigh as one of sixteen, which is an epoch."""
    calm = {"dropout": 0.0, "feature_dropout": 0.0, "state_dropout": 0.0, "image_decoder": "upsampling", "epochs": 1}
    calm |= {"contrastive_weight": 0.0, "text_weight": 0.0}
    one, two = start("one", batch_size=16, **calm), start("two", batch_size=8, accumulate=2, **calm)
    mine, theirs = one.model.state_dict(), two.model.state_dict()
    assert all(torch.allclose(mine[k], theirs[k], atol=2e-5) for k in mine)
    assert not equal_weights(one.model, start("three", batch_size=8, **calm).model)


def test_the_batches_left_over_make_a_step_of_their_own(start):
    steps = []
    step = torch.optim.AdamW.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda self, *args: (steps.append(1), step(self, *args))[1])
        start(epochs=1, batch_size=3, accumulate=4, pretraining=0)  # six batches: four and two
    assert len(steps) == 2


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


def test_mixed_precision_learns_nearly_the_same(start, tmp_path):
    full, mixed = start("full"), start("mixed", precision="bf16")
    assert all(v.dtype == torch.float32 for v in mixed.model.state_dict().values() if v.is_floating_point())
    assert not equal_weights(full.model, mixed.model)
    one, two = (history(tmp_path / name)["validation_score"].to_numpy() for name in ("full", "mixed"))
    assert one == pytest.approx(two, rel=0.02)
    with pytest.raises(ConfigError, match="'fp16' needs a GPU"):
        start("half", precision="fp16")


def test_training_stops_when_retrieval_no_longer_gets_better(start, monkeypatch, tmp_path):
    found = iter([0.2, 0.5, 0.4, 0.5, 0.6])
    monkeypatch.setattr(training, "validate", lambda *args: {"text": 1.0, "contrastive": 0.0, "page_mrr": next(found)})
    start(epochs=9, patience=2)
    assert history(tmp_path / "run")["validation_page_mrr"].tolist() == [0.2, 0.5, 0.4, 0.5]


def test_patience_zero_never_stops():
    assert not training.stalled([{"validation_page_mrr": v} for v in (3, 2, 1, 0)], 0)
    assert not training.stalled([], 1)


def test_validation_ranks_the_next_page_as_the_evaluation_does(tiny_data, tiny_sets, tiny_runs):
    run = tiny_runs[1.0, 0]
    model, held = run.model(tiny_data), tiny_sets["test"]
    held.embed_bank(model)
    checked = training.validate(model, batches(held, 3), run.config.train)
    assert checked["page_mrr"] == pytest.approx(run.metrics["page_mrr"]["value"], abs=1e-5)


def test_tensorboard_shows_every_step_and_epoch(start, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(epochs=2)
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    log.Reload()
    tags = set(log.Tags()["scalars"])
    assert {"step/loss", "step/gradient", "step/learning_rate", "train/contrastive", "validation/page_mrr"} <= tags
    assert [e.step for e in log.Scalars("step/loss")] == [1, 2, 3, 4]
    epochs = history(tmp_path / "run")["validation_page_mrr"]
    assert [e.value for e in log.Scalars("validation/page_mrr")] == pytest.approx(epochs.tolist(), rel=1e-4)


# ---- weights on disk


@pytest.fixture
def make(tiny_data, tiny_sets):
    def build(**overrides):
        return build_model(tiny_config(**overrides), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])

    return build


def test_weights_come_back_and_tied_ones_are_stored_once(make, tmp_path):
    from safetensors.torch import load_file

    one, two = make(seed=1), make(seed=2)
    assert not equal_weights(one, two)
    save_weights(one, tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == len({t.data_ptr() for t in one.state_dict().values()}) < len(one.state_dict())
    load_weights(two, tmp_path / "model.safetensors")
    assert equal_weights(one, two)
    lm = two.text_decoder.lm
    assert lm.lm_head.weight is lm.get_input_embeddings().weight
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "other", [{"temporal": "lstm"}, {"temporal": "transformer"}, {"fusion": "gate"}, {"width": 32}]
)
def test_weights_of_another_model_are_refused(make, tmp_path, other):
    save_weights(make(), tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"another model|size mismatch"):
        load_weights(make(**other), tmp_path / "model.safetensors")
