"""The configuration of a run: three frozen dataclasses, the profiles, presets and arms of ``experiments.yml``, folders.

Nothing here imports torch, so that the workflow reads it in milliseconds.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# The layers of the package from the ground up: each imports only from earlier ones. The only such list.
LAYERS = (
    "config data metrics sources decoders model losses training baselines evaluation experiments analysis audit report"
).split()

# Every arm has these losses. The best epoch is selected by their sum, never by a loss that only one arm has.
SELECTION_LOSSES = ("next_image", "next_text", "text", "image")


class ConfigError(ValueError):
    """A parameter that does not exist, has the wrong type or cannot have this value."""


@dataclass(frozen=True)
class DataConfig:
    """Which stories, how they are cut, and which frozen networks see them."""

    source: str = "storyworld"  # a name of storylib.sources
    stories: int | None = None  # at most this many stories; None: all
    chapters: int = 1  # plots of a story, 1 or 2; of Storyworld only
    context: int = 4  # K: frames before the one to predict
    train_stories: float | None = None  # at most this many training stories; below 1, this share
    split_seed: int = 0  # which stories are held out; independent of the training seed
    split_by: str = "group"  # "group": leak-free; "story": random, leaks; "source": the largest one trains
    image_encoder: str = "efficientnet_lite0"  # "a or b" tries a first, and takes b if its weights cannot be had
    text_encoder: str = "minilm"

    @property
    def options(self) -> dict[str, Any]:
        """Options of the source, for ``load_stories``."""
        return {} if self.chapters == 1 else {"chapters": self.chapters}


@dataclass(frozen=True)
class ModelConfig:
    """The trainable part; the encoders are frozen and run once, before training."""

    width: int = 256  # shared space, fused state and temporal state
    inputs: str = "both"  # of the story state; "target picture", "target text": oracle, in place of the last frame's
    fusion: str = "concat"  # "concat", "gate" or "cross_attention"
    temporal: str = "gru"  # "gru", "lstm" or "transformer"
    next_embedding: str = "mixture"  # of the context plus a correction; or "linear": from the story state alone
    temperature: float = 0.07  # of the contrastive loss; the initial value if it is learned
    learned_temperature: bool = True
    dropout: float = 0.1
    feature_dropout: float = 0.5  # of the frozen features, before the projections
    state_dropout: float = 0.5  # of the story state where it corrects a next embedding; 1: no correction
    correction_rank: int = 64  # principal directions along which a next embedding is corrected
    text_decoder: str = "gpt2-shallow"  # from scratch, "gpt2-small", "gpt2-tiny"; or pretrained, "smollm2", "hf:<repo>"
    text_length: int = 48  # word pieces of a text; the rest is cut
    word_dropout: float = 0.0  # share of the preceding words hidden from the text decoder in training
    image_decoder: str = "sampling"  # "upsampling": one picture; "sampling": several as well
    image_size: int = 64  # side of the predicted picture in pixels: 16, 32, 64, 128


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained. Every loss has a weight; at 0 the loss is off and is not logged at all."""

    contrastive_weight: float = 1.0  # the ablation: image-text alignment of all frames of a window
    contrastive_text: str = "story"  # aligned with a picture: its text, or its "description" where there is one
    contrastive_loss: str = "infonce"  # "infonce" (CLIP) or "siglip"
    next_image_weight: float = 1.0
    next_text_weight: float = 1.0
    candidates: int = 2560  # for both next-frame losses: the largest number of candidate training frames per batch
    in_story_weight: float = 3.0  # weight, within both, of the choice among the story's own frames, which teaches order
    text_weight: float = 1.0
    image_weight: float = 1.0
    feature_weight: float = 0.2  # weight, within the image loss, of the distance in a frozen network's first layers
    divergence_weight: float = 0.001  # weight, within the image loss, of a sampling decoder's divergence, in nats
    pretraining: int = 3  # epochs of pretraining for the text decoder alone, on all training texts; 0: none
    epochs: int = 10  # passes over the training windows; the profiles set their own
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps
    clip: float = 1.0  # largest norm of a gradient; 0: no limit
    precision: str = "no"  # "no": float32; "bf16" or "fp16" (GPU only): mixed
    seed: int = 0
    threads: int = 1  # CPU threads; sums in another order give other last digits
    device: str = "auto"  # "auto", "cpu", "cuda" or "mps"


CHOICES = {
    "split_by": ("group", "story", "source"),
    "inputs": ("both", "pictures", "texts", "target picture", "target text"),
    "fusion": ("concat", "gate", "cross_attention"),
    "temporal": ("gru", "lstm", "transformer"),
    "next_embedding": ("mixture", "linear"),
    "image_decoder": ("upsampling", "sampling"),
    "contrastive_text": ("story", "description"),
    "contrastive_loss": ("infonce", "siglip"),
    "precision": ("no", "bf16", "fp16"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


# Least and greatest values; every other number must be at least 0.
COUNTS = "stories context width correction_rank text_length image_size epochs batch_size candidates threads".split()
SHARES = "dropout feature_dropout state_dropout word_dropout warmup".split()
LIMITS: dict[str, tuple[float, float]] = dict.fromkeys(COUNTS, (1.0, float("inf")))
LIMITS |= dict.fromkeys(SHARES, (0.0, 1.0))
LIMITS |= dict.fromkeys(("temperature", "train_stories"), (0.01, float("inf")))


@dataclass(frozen=True)
class Config:
    """One run. Field names are unique across the three parts, so that overrides stay flat and short."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed, by flat name. Raises ConfigError for an unknown name or wrong value."""
        parts = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        part_of = {spec.name: part for part, value in parts.items() for spec in dataclasses.fields(value)}
        for name, value in changes.items():
            if name not in part_of:
                raise ConfigError(unknown("parameter", name, part_of))
            part = parts[part_of[name]]
            checked = _checked(name, value, str(type(part).__dataclass_fields__[name].type))
            parts[part_of[name]] = dataclasses.replace(part, **{name: checked})
        return Config(**parts)

    def flat(self) -> dict[str, Any]:
        """All fields as one flat dictionary."""
        return {**vars(self.data), **vars(self.model), **vars(self.train)}

    def identity(self) -> str:
        """Hash of everything that can change a result: all but the device, which changes only the speed."""
        return digest({name: value for name, value in self.flat().items() if name != "device"})


def configure(profile: str = "quick", arm: str | None = None, preset: str | None = None, **overrides: Any) -> Config:
    """The configuration of a profile, a preset and an arm of ``experiments.yml``, with overrides by flat name.

    The later of these wins where two set the same field.

    >>> configure("quick", preset="system_b").train.contrastive_weight
    0.5
    """
    plan = experiments()
    settings: dict[str, Any] = {}
    for kind, name in (("profile", profile), ("preset", preset), ("arm", arm)):
        if name is not None:
            if name not in plan[f"{kind}s"]:
                raise ConfigError(unknown(kind, name, plan[f"{kind}s"]))
            settings |= plan[f"{kind}s"][name]
            settings |= settings.pop("sources", {}).get(str(overrides.get("source", DataConfig.source)), {})
    settings.pop("seeds")
    return Config().replace(**(settings | overrides))


def experiments() -> dict[str, Any]:
    """``experiments.yml``: profiles (with their seeds), presets and arms, each a short diff of the defaults."""
    for path in (project_root() / "experiments.yml", Path(__file__).with_name("experiments.yml")):
        if path.exists():
            return yaml.safe_load(path.read_text(encoding="utf-8"))
    raise ConfigError("experiments.yml is neither in the project nor in the installed package; reinstall storylib")


def seeds(profile: str) -> list[int]:
    """The training seeds of a profile."""
    return list(experiments()["profiles"][profile]["seeds"])


def unknown(kind: str, name: str, known: Any) -> str:
    """One sentence for a misspelt name: what it might have been, and what there is."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(str(k) for k in known))}."


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that name any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def slug(text: str) -> str:
    """Any text, or its end, as a safe part of a file name: up to 40 ASCII letters, digits, and within them ". - _"."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[-40:].strip("._-") or "unnamed"


def build_name(source: str, profile: str) -> str:
    """A safe name for what is made of a source with a profile; a path or an address in it is only hashed."""
    name, colon, _ = source.partition(":")
    return f"{name}-{profile}" + (f"-{digest(source)[:8]}" if colon else "")


def project_root() -> Path:
    """The checkout that storylib runs from, or the current folder when it is installed elsewhere."""
    if home := environment_folder("STORYLIB_HOME"):
        return home
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def cache_dir(*parts: str) -> Path:
    """Downloads, drawn worlds and features: safe to delete, rebuilt when missing (``STORYLIB_CACHE`` moves it)."""
    return (environment_folder("STORYLIB_CACHE") or project_root() / "cache").joinpath(*parts)


def runs_dir() -> Path:
    """Where run records are kept (``STORYLIB_RUNS`` moves it)."""
    return environment_folder("STORYLIB_RUNS") or project_root() / "runs"


def environment_folder(variable: str) -> Path | None:
    """The folder that a variable of the environment names, with "~" expanded; None if it names none."""
    folder = os.environ.get(variable)
    return Path(os.path.expanduser(folder)) if folder else None


def _checked(name: str, value: Any, annotation: str) -> Any:
    wanted = {"int": int, "float": (int, float), "str": str, "bool": bool}
    options = [a.strip() for a in annotation.split("|")]
    if value is None and "None" in options:
        return None
    fits = [t for t in options if t != "None" and isinstance(value, wanted[t])]  # type: ignore[arg-type]
    if not fits or (isinstance(value, bool) and "bool" not in options):
        raise ConfigError(f"Parameter {name!r} must be {annotation}, not {value!r} ({type(value).__name__}).")
    if name in CHOICES and value not in CHOICES[name]:
        raise ConfigError(unknown(name, value, CHOICES[name]))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = LIMITS.get(name, (0, float("inf")))
        if not low <= value <= high:
            span = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
            raise ConfigError(f"Parameter {name!r} must be {span}, but is {value!r}.")
    return float(value) if fits[0] == "float" else value
