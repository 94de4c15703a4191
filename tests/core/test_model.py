"""The story model: an untrained one equals a baseline, the target never leaks, and arms start equal."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib import model as model_module
from storylib.baselines import mean_of_context
from storylib.config import Config
from storylib.data.windows import data_loader
from storylib.losses import compute_losses
from storylib.model import FrozenSpace

RECENCY = torch.tensor([0.1, 0.2, 0.3, 0.4])
PREDICTIONS = ("next_image", "next_text", "token_log_probabilities", "picture")


def batch_of(dataset, size=8):
    return dataset.__getitems__(range(min(size, len(dataset))))


def leave_zero(model):
    """Move the corrections away from their zero start, through which nothing reaches a prediction yet."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (model.next_image.correction, model.next_text.correction, model.image_decoder.paint):
            part.weight.normal_(generator=generator)
    return model


def context(batch):
    return batch["image"][:, :-1], batch["text"][:, :-1]


def test_the_frozen_spaces_are_centred_on_training_frames_only(build, tiny_sets):
    model, train, held_out = build(), tiny_sets["train"], tiny_sets["test"]
    assert torch.allclose(model.image_space.mean, train.image[:].mean(0), atol=1e-5)
    assert torch.allclose(model.text_space.mean, train.text[:].mean(0), atol=1e-5)
    expected = F.normalize(held_out.image[:] - train.image[:].mean(0), dim=-1)
    assert torch.allclose(model.image_space(held_out.image[:]), expected, atol=1e-5)
    assert torch.allclose(held_out.image_bank, expected, atol=1e-5)


def test_an_untrained_model_equals_the_recency_baseline(build, tiny_sets):
    model, held_out = build().eval(), tiny_sets["test"]
    output = model(batch_of(held_out, 99))
    baseline = mean_of_context(held_out, RECENCY)
    assert torch.allclose(output["next_image"], baseline.image, atol=1e-6)
    assert torch.allclose(output["next_text"], baseline.text, atol=1e-6)
    mean = mean_of_context(held_out, torch.full((4,), 0.25))
    assert torch.allclose(output["picture"], mean.picture, atol=1e-6)


def test_dropout_does_not_move_the_untrained_prediction(build, tiny_sets):
    model, batch = build().train(), batch_of(tiny_sets["train"])
    torch.manual_seed(0)
    assert torch.allclose(model(batch)["next_image"], model.eval()(batch)["next_image"], atol=1e-6)


@pytest.mark.parametrize(
    ("fusion", "temporal"), [("concat", "gru"), ("gate", "lstm"), ("cross_attention", "transformer")]
)
def test_every_fusion_and_temporal_model_learns(build, tiny_sets, fusion, temporal):
    model = leave_zero(build(fusion=fusion, temporal=temporal, image_decoder="sampling"))
    batch = batch_of(tiny_sets["train"])
    words = torch.randint(3, 27, batch["context_tokens"].shape, generator=torch.Generator().manual_seed(0))
    output = model.train()(batch | {"context_tokens": words})
    b, k, width = 8, 4, 16
    assert output["story"].shape == (b, k + 1, width) and output["state"].shape == (b, width)
    assert output["next_image"].shape == (b, 24) and output["next_text"].shape == (b, 20)
    assert output["picture"].shape == (b, 3, 16, 16)
    assert output["image_shared"].shape == output["text_shared"].shape == (b, k + 1, width)
    sum(compute_losses(output, batch, tiny_config(contrastive_loss="siglip").train).values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []


@pytest.mark.parametrize("projection", ["image_projection", "text_projection"])
def test_what_the_contrastive_loss_trains_reaches_every_prediction(build, tiny_sets, projection):
    """With the default model: otherwise an ablation of the loss could not show an effect on a prediction."""
    defaults = dataclasses.asdict(Config().model)
    sizes = ("width", "image_size", "text_length")
    model = leave_zero(build(**{name: value for name, value in defaults.items() if name not in sizes}).eval())
    batch = batch_of(tiny_sets["test"])
    with torch.no_grad():
        before = model(batch)
        getattr(model, projection).weight.mul_(-1)
        after = model(batch)
    for name in PREDICTIONS:
        moved = (after[name] - before[name]).abs().flatten(1).amax(1)
        assert (moved > 1e-4).all(), name
    shared = {"image_projection": "image_shared", "text_projection": "text_shared"}[projection]
    assert not torch.allclose(before[shared], after[shared])  # and the loss reads the same projection


@pytest.mark.parametrize("fusion", ["concat", "gate", "cross_attention"])
def test_the_state_depends_on_pictures_and_texts_of_all_frames(build, tiny_sets, fusion):
    model = build(fusion=fusion).eval()
    image, text = context(batch_of(tiny_sets["train"]))
    state = model.read(image, text)["state"]
    for position in range(4):
        for which in range(2):
            changed = [image.clone(), text.clone()]
            changed[which][:, position] = changed[which][:, position].flip(-1)
            assert not torch.allclose(model.read(*changed)["state"], state, atol=1e-6)


def test_the_order_of_the_frames_matters(build, tiny_sets):
    model = build().eval()
    image, text = context(batch_of(tiny_sets["train"]))
    forward, backward = model.read(image, text), model.read(image.flip(1), text.flip(1))
    assert not torch.allclose(forward["state"], backward["state"], atol=1e-5)


@pytest.mark.parametrize("temporal", ["gru", "lstm", "transformer"])
def test_a_state_does_not_depend_on_later_frames(build, temporal):
    model = build(temporal=temporal).eval()
    frames = torch.randn(2, 4, 16)
    changed = frames.clone()
    changed[:, 2] = torch.randn(2, 16)  # not a shift, which layer norms remove
    before, after = model.temporal(frames), model.temporal(changed)
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-3)


@pytest.mark.parametrize("fusion", ["concat", "cross_attention"])
def test_the_targets_own_frame_reaches_no_prediction(build, tiny_sets, fusion):
    """Only the contrastive loss reads it, as one more pair."""
    model, batch = leave_zero(build(fusion=fusion).eval()), batch_of(tiny_sets["train"])
    other = dict(batch)
    other["image"], text = batch["image"].clone(), batch["text"].clone()
    other["image"][:, -1] = torch.randn_like(other["image"][:, -1])
    text[:, -1] = torch.randn_like(text[:, -1])
    other["text"] = text
    other["picture"] = torch.rand_like(batch["picture"])
    other["target"] = batch["target"].flip(0)
    output, changed = model(batch), model(other)
    for name in (*PREDICTIONS, "story", "state"):
        assert torch.equal(output[name], changed[name]), name
    assert not torch.allclose(output["image_shared"][:, -1], changed["image_shared"][:, -1])
    assert torch.equal(output["image_shared"][:, :-1], changed["image_shared"][:, :-1])


@pytest.mark.parametrize(
    ("inputs", "read"),
    [("both", {0, 3}), ("pictures", {0}), ("texts", {3}), ("target picture", {0, 2, 3}), ("target text", {0, 3, 5})],
)
def test_a_model_reads_the_inputs_that_it_is_given(build, tiny_sets, inputs, read):
    """Of pictures and then of texts: the first frame, the last of the context, the target."""
    model, batch = leave_zero(build(inputs=inputs).eval()), batch_of(tiny_sets["train"])
    state = model(batch)["state"]
    moved = set()
    for i in range(6):
        parts = [batch["image"].clone(), batch["text"].clone()]
        parts[i // 3][:, (0, 3, 4)[i % 3]] += 1
        if not torch.equal(model(batch | {"image": parts[0], "text": parts[1]})["state"], state):
            moved.add(i)
    hidden = {"target picture": {1}, "target text": {4}}.get(inputs, set())  # the last frame's, which it replaces
    kept = {"pictures": {1}, "texts": {4}}.get(inputs, {1, 4})
    assert moved == read | kept - hidden


def test_the_true_text_reaches_only_its_own_likelihood(build, tiny_sets):
    model, batch = build().eval(), batch_of(tiny_sets["train"])
    other = batch | {"tokens": batch["tokens"].flip(0)}
    output, changed = model(batch), model(other)
    for name in ("next_image", "next_text", "story", "picture"):
        assert torch.equal(output[name], changed[name])
    same_first = batch["tokens"][:, 0] == other["tokens"][:, 0]
    assert same_first.any()
    first = output["token_log_probabilities"][:, 0], changed["token_log_probabilities"][:, 0]
    assert torch.equal(first[0][same_first], first[1][same_first])


def test_shared_vectors_are_unit_vectors(build, tiny_sets):
    held_out = tiny_sets["test"]
    for vectors in build().eval().shared(held_out.image[:], held_out.text[:]):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(vectors)), atol=1e-5)


def test_scales_stay_bounded(build, tiny_sets):
    model, batch = build(), batch_of(tiny_sets["train"])
    with torch.no_grad():
        model.log_alignment_scale.fill_(50)
        model.next_image.log_scale.fill_(50)
    output = model(batch)
    assert output["alignment_scale"] == 100 and output["next_image_scale"] == 100


def test_arms_start_equal(build, tiny_sets):
    """Bit-equal initial weights, first batch and first outputs, whatever the contrastive weight."""
    starts = []
    for weight, kind in ((0.0, "infonce"), (1.0, "infonce"), (1.0, "siglip")):
        config = tiny_config(contrastive_weight=weight, contrastive_loss=kind, seed=5)
        model = build(contrastive_weight=weight, contrastive_loss=kind, seed=5).train()
        batch = next(iter(data_loader(tiny_sets["train"], config.train.batch_size, config.train.seed)))
        torch.manual_seed(config.train.seed)
        output = model(batch)
        losses = compute_losses(output, batch, config.train)
        losses.pop("contrastive", None)
        starts.append((model.state_dict(), batch, output, losses))
    for other in starts[1:]:
        for one, two in zip(starts[0], other, strict=True):
            assert one.keys() == two.keys()
            assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_seed_changes_the_weights(build):
    one, same, other = (build(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["image_projection.weight"], other["image_projection.weight"])


def test_a_linear_head_reads_the_state_alone_and_a_fixed_temperature_is_not_trained(build, tiny_sets):
    model = build(next_embedding="linear", learned_temperature=False, temperature=0.1)
    batch = batch_of(tiny_sets["test"])
    output = model.eval()(batch)
    assert torch.equal(output["next_image"], model.next_image.head(output["state"]))
    assert output["alignment_scale"].item() == pytest.approx(10) and not output["alignment_scale"].requires_grad
    sum(compute_losses(model(batch), batch, tiny_config().train).values()).backward()
    assert model.next_text.head.weight.grad.abs().sum() > 0


def test_a_frozen_space_is_the_same_read_in_pieces(monkeypatch):
    vectors = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) + 3
    whole = FrozenSpace.fit(vectors, 4)
    monkeypatch.setattr(model_module, "ROWS_IN_MEMORY", 33)
    pieces = FrozenSpace.fit(vectors, 4)
    assert torch.allclose(pieces.mean, whole.mean, atol=1e-6)
    assert torch.allclose(pieces.basis.T @ pieces.basis, whole.basis.T @ whole.basis, atol=1e-6)  # up to a sign
    unit = F.normalize(vectors - vectors.mean(0), dim=-1)
    variance = torch.linalg.eigvalsh(unit.T @ unit / 100)[-4:]
    assert torch.allclose(pieces.basis.norm(dim=1) ** 2, variance, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 18])
def test_the_space_of_few_vectors_has_their_directions_and_no_others(count):
    """Most of the 1,280 features are zero, as of a few drawings: in float32 the decomposition fails or gives NaN."""
    vectors = torch.randn(count, 1280, generator=torch.Generator().manual_seed(0))
    vectors[:, torch.arange(1280) % 4 != 0] = 0
    space = FrozenSpace.fit(vectors.repeat(3, 1), 64)
    unit = space(vectors)
    covariance = unit.T @ unit / count
    assert space.basis.dtype == torch.float32 and torch.allclose(space.basis.T @ space.basis, covariance, atol=1e-5)
