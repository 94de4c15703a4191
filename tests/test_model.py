"""The storyteller: an untrained one is a floor, the target never leaks, and arms start equal."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib import model as model_module
from storylib.floors import mean_of_context
from storylib.losses import compute_losses
from storylib.model import FrozenSpace
from storylib.training import EpochSampler, batches, build_model

WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.4])  # recency: 1 : 2 : 3 : 4


@pytest.fixture
def build(tiny_data, tiny_sets):
    def make(**overrides):
        config = tiny_config(**overrides)
        model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
        for name in ("train", "validation", "test"):
            tiny_sets[name].embed_bank(model)
        return model

    return make


def batch_of(dataset, size=8):
    return dataset.__getitems__(range(min(size, len(dataset))))


def test_the_frozen_spaces_are_centred_on_training_pages_only(build, tiny_data, tiny_sets):
    model = build()
    train = tiny_sets["train"]
    assert torch.allclose(model.image_space.mean, train.image[:].mean(0), atol=1e-5)
    assert torch.allclose(model.text_space.mean, train.text[:].mean(0), atol=1e-5)
    vectors = tiny_sets["test"].image[:]
    expected = F.normalize(vectors - train.image[:].mean(0), dim=-1)
    assert torch.allclose(model.image_space(vectors), expected, atol=1e-5)
    assert torch.allclose(tiny_sets["test"].bank["image_bank"], expected, atol=1e-5)


def test_an_untrained_model_equals_the_recency_floor(build, tiny_sets):
    model, held = build().eval(), tiny_sets["test"]
    batch = batch_of(held, 99)
    out = model(batch)
    floor = mean_of_context(held, WEIGHTS)
    assert torch.allclose(out["next_image"], floor.image, atol=1e-6)
    assert torch.allclose(out["next_text"], floor.text, atol=1e-6)
    mean = mean_of_context(held, torch.full((4,), 0.25))
    assert torch.allclose(out["picture"], mean.picture, atol=1e-6)


def test_dropout_does_not_move_the_untrained_prediction(build, tiny_sets):
    model, batch = build().train(), batch_of(tiny_sets["train"])
    torch.manual_seed(0)
    assert torch.allclose(model(batch)["next_image"], model.eval()(batch)["next_image"], atol=1e-6)


@pytest.mark.parametrize(
    ("fusion", "temporal"),
    list(itertools.product(["concat", "gate", "cross_attention"], ["gru", "lstm", "transformer"])),
)
def test_every_fusion_and_temporal_model_learns(build, tiny_sets, fusion, temporal):
    model = build(fusion=fusion, temporal=temporal, image_decoder="sampling")
    batch = batch_of(tiny_sets["train"])
    with torch.no_grad():  # away from the zero start, where nothing flows through the corrections yet
        for part in (model.next_image.correction, model.next_text.correction, model.image_decoder.paint):
            part.weight.normal_()
    words = torch.randint(3, 27, batch["context_tokens"].shape, generator=torch.Generator().manual_seed(0))
    out = model.train()(batch | {"context_tokens": words})
    b, k, width = 8, 4, 16
    assert out["story"].shape == (b, k + 1, width) and out["state"].shape == (b, width)
    assert out["next_image"].shape == (b, 24) and out["next_text"].shape == (b, 20)
    assert out["picture"].shape == (b, 3, 16, 16)
    assert out["image_shared"].shape == out["text_shared"].shape == (b, k + 1, width)
    sum(compute_losses(out, batch, tiny_config(contrastive_loss="siglip").train).values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []


@pytest.mark.parametrize("fusion", ["concat", "gate", "cross_attention"])
def test_the_state_sees_pictures_and_texts_of_all_frames(build, tiny_sets, fusion):
    model, batch = build(fusion=fusion).eval(), batch_of(tiny_sets["train"])
    image, text = batch["image"][:, :-1], batch["text"][:, :-1]
    state = model.read(image, text)["state"]
    for position in range(4):
        for which in range(2):
            changed = [image.clone(), text.clone()]
            changed[which][:, position] = changed[which][:, position].flip(-1)
            assert not torch.allclose(model.read(*changed)["state"], state, atol=1e-6)


def test_the_order_of_the_frames_matters(build, tiny_sets):
    model, batch = build().eval(), batch_of(tiny_sets["train"])
    image, text = batch["image"][:, :-1], batch["text"][:, :-1]
    forth, back = model.read(image, text), model.read(image.flip(1), text.flip(1))
    assert not torch.allclose(forth["state"], back["state"], atol=1e-5)


@pytest.mark.parametrize("temporal", ["gru", "lstm", "transformer"])
def test_a_state_does_not_see_later_frames(build, tiny_sets, temporal):
    model = build(temporal=temporal).eval()
    frames = torch.randn(2, 4, 16)
    changed = frames.clone()
    changed[:, 2] = torch.randn(2, 16)  # a shift would not do: layer norms do not see it
    before, after = model.temporal(frames), model.temporal(changed)
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-3)


@pytest.mark.parametrize("fusion", ["concat", "cross_attention"])
def test_the_targets_own_frame_reaches_no_prediction(build, tiny_sets, fusion):
    """Only the alignment loss may look at it, as one more pair."""
    model, batch = build(fusion=fusion).eval(), batch_of(tiny_sets["train"])
    with torch.no_grad():
        for part in (model.next_image.correction, model.next_text.correction, model.image_decoder.paint):
            part.weight.normal_()
    out = model(batch)
    other = dict(batch)
    for name in ("image", "text"):
        other[name] = batch[name].clone()
        other[name][:, -1] = torch.randn_like(other[name][:, -1])
    other["picture"] = torch.rand_like(batch["picture"])
    other["target"] = batch["target"].flip(0)
    changed = model(other)
    for name in ("next_image", "next_text", "story", "state", "picture", "token_log_probabilities"):
        assert torch.equal(out[name], changed[name]), name
    assert not torch.allclose(out["image_shared"][:, -1], changed["image_shared"][:, -1])
    assert torch.equal(out["image_shared"][:, :-1], changed["image_shared"][:, :-1])


def test_the_true_text_reaches_only_its_own_likelihood(build, tiny_sets):
    model, batch = build().eval(), batch_of(tiny_sets["train"])
    other = batch | {"tokens": batch["tokens"].flip(0)}
    out, changed = model(batch), model(other)
    for name in ("next_image", "next_text", "story", "picture"):
        assert torch.equal(out[name], changed[name])
    same_first = batch["tokens"][:, 0] == other["tokens"][:, 0]
    assert same_first.any()
    first = out["token_log_probabilities"][:, 0], changed["token_log_probabilities"][:, 0]
    assert torch.equal(first[0][same_first], first[1][same_first])


def test_shared_vectors_are_unit_vectors(build, tiny_sets):
    image, text = build().eval().shared(tiny_sets["test"].image[:], tiny_sets["test"].text[:])
    for vectors in (image, text):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(vectors)), atol=1e-5)


def test_scales_stay_bounded(build, tiny_sets):
    model, batch = build(), batch_of(tiny_sets["train"])
    with torch.no_grad():
        model.log_alignment_scale.fill_(50)
        model.next_image.log_scale.fill_(50)
    out = model(batch)
    assert out["alignment_scale"] == 100 and out["next_image_scale"] == 100


def test_arms_start_equal(build, tiny_sets):
    """Bit-equal initial weights, first batch and first outputs, whatever the contrastive weight."""
    starts = []
    for weight, kind in ((0.0, "infonce"), (1.0, "infonce"), (1.0, "siglip")):
        config = tiny_config(contrastive_weight=weight, contrastive_loss=kind, seed=5)
        model = build(contrastive_weight=weight, contrastive_loss=kind, seed=5).train()
        sampler = EpochSampler(len(tiny_sets["train"]), config.train.seed)
        batch = next(iter(batches(tiny_sets["train"], config.train.batch_size, sampler)))
        torch.manual_seed(config.train.seed)
        out = model(batch)
        losses = compute_losses(out, batch, config.train)
        losses.pop("contrastive", None)
        starts.append((model.state_dict(), batch, out, losses))
    for other in starts[1:]:
        for mine, theirs in zip(starts[0], other, strict=True):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_the_seed_changes_the_weights(build):
    one, same, other = (build(seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["image_projection.weight"], other["image_projection.weight"])


def test_a_linear_head_reads_the_state_alone_and_a_fixed_temperature_is_not_trained(build, tiny_sets):
    model, batch = (
        build(next_embedding="linear", learned_temperature=False, temperature=0.1),
        batch_of(tiny_sets["test"]),
    )
    out = model.eval()(batch)
    assert torch.equal(out["next_image"], model.next_image.head(out["state"]))
    assert out["alignment_scale"].item() == pytest.approx(10) and not out["alignment_scale"].requires_grad
    sum(compute_losses(model(batch), batch, tiny_config().train).values()).backward()
    assert model.next_text.head.weight.grad.abs().sum() > 0


def test_a_frozen_space_is_the_same_read_in_pieces(monkeypatch):
    vectors = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) + 3
    whole = FrozenSpace(vectors, 4)
    monkeypatch.setattr(model_module, "PIECE", 33)
    pieces = FrozenSpace(vectors, 4)
    assert torch.allclose(pieces.mean, whole.mean, atol=1e-6)
    assert torch.allclose(pieces.basis.T @ pieces.basis, whole.basis.T @ whole.basis, atol=1e-6)  # up to a sign
    unit = F.normalize(vectors - vectors.mean(0), dim=-1)
    variance = torch.linalg.eigvalsh(unit.T @ unit / 100)[-4:]
    assert torch.allclose(pieces.basis.norm(dim=1) ** 2, variance, atol=1e-6)
