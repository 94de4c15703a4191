"""A trained storyteller on its own: asked to go on with any pictures and texts, saved, and loaded without any story.

storyteller = storylib.load_run("storyworld-contrastive1-seed0-...").storyteller
storyteller.save_pretrained("folder")
storylib.Storyteller.from_pretrained("folder").predict(images, texts).text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from storylib.boundary import LowerLayers, UpperLayers
from storylib.config import Config
from storylib.decoders import Vocabulary, load_tokenizer
from storylib.encoders import load_image_encoder, load_text_encoder
from storylib.features import Features, Rows, thumbnail
from storylib.model import FrozenSpace, StoryModel
from storylib.pictures import PictureLike, open_picture
from storylib.stories import Frame, Story

SAME = 0.999  # cosine from which a known picture counts as one of those given


class PredictionError(ValueError):
    """Pictures and texts that are not what the model reads; the message says what it wants."""


@dataclass(frozen=True)
class Known:
    """Pictures that are known, to find the nearest: ``vectors`` (P, Di), and a story and a frame for each row."""

    vectors: Tensor
    places: list[tuple[Story, Frame]]

    @classmethod
    def of(cls, stories: Sequence[Story], features: Features) -> Known:
        """Every picture of these stories, once."""
        pages = [(s, f) for s in stories for f in s.frames]
        of = features.image_of[features.rows(stories)]
        rows, first = np.unique(of, return_index=True)
        return cls(Rows(features.image_vectors, rows)[:], [pages[i] for i in first])


@dataclass(frozen=True)
class NextFrame:
    """What comes next. A part is None if the model was not trained for it, or if no picture is known to it."""

    text: str | None
    image: Image.Image | None
    nearest: Frame | None = None  # the frame whose picture is nearest to the expected one, not counting those given
    story: Story | None = None  # where that frame is from
    similarity: float | None = None  # cosine of the expected and the nearest picture, centred


class Storyteller(nn.Module, PyTorchModelHubMixin, library_name="storylib"):
    """A StoryModel with all it needs to meet new pictures and texts: configuration, words and encoders.

    settings: the configuration, flat. pieces: the vocabulary's word pieces. dims: of the two frozen features (Di, Dt).
    record: of the run that trained it, with its metrics if it was evaluated; the model card is written from it.
    """

    def __init__(
        self, settings: dict[str, Any], pieces: list[int], dims: list[int], record: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.settings, self.record = Config().replace(**settings), record or {}
        data, model = self.settings.data, self.settings.model
        self.vocabulary = Vocabulary(load_tokenizer(model.text_decoder, data.text_encoder), pieces)
        with torch.random.fork_rng(devices=[]):  # whatever is drawn here, the weights replace
            image, text = (FrozenSpace(torch.zeros(1, dim), model.correction_rank) for dim in dims)
            layers = model.trainable_text_layers
            upper = UpperLayers(load_text_encoder(data.text_encoder), layers) if layers else None
            self.model = StoryModel(model, image, text, self.vocabulary, data.context, upper)

    @cached_property
    def encoders(self) -> tuple[Any, Any]:
        """The frozen networks for pictures and for texts, loaded when first asked. Raises EncoderError."""
        return load_image_encoder(self.settings.data.image_encoder), load_text_encoder(self.settings.data.text_encoder)

    @torch.inference_mode()
    def predict(
        self, images: Sequence[PictureLike | str], texts: Sequence[str], known: Known | None = None, **options: Any
    ) -> NextFrame:
        """The frame that follows K pictures and their texts, in the order of the story.

        images: paths or PIL pictures. known: where to look for the nearest picture. options: of the
        text decoder's ``generate``, such as ``mode="beam"`` or ``mode="nucleus", seed=1``; without any the text is
        always the same.
        Raises PredictionError for another number of pictures or texts or an empty text, and PictureError for a
        picture that cannot be read.
        """
        self.eval()
        train, batch = self.settings.train, self.read(images, texts)
        out = self.model.read(batch["image"], batch["text"], self.model.texts(batch))
        text = image = None
        if train.text_weight > 0:
            length = self.settings.model.text_length
            ids = self.model.text_decoder.generate(out["story"], batch["context_tokens"], length=length, **options)
            text = self.vocabulary.decode(ids)[0]
        if train.image_weight > 0:
            pixels = self.model.image_decoder(out["state"], batch["context_pictures"])[0].clamp(0, 1)
            image = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        return NextFrame(text, image, *(self.nearest(out["next_image"][0], batch["image"][0], known) if known else ()))

    def read(self, images: Sequence[PictureLike | str], texts: Sequence[str]) -> dict[str, Tensor]:
        """A batch of one context: what the encoders and the vocabulary make of it."""
        pictures = [open_picture(Path(i) if isinstance(i, str) else i) for i in self._complete(images, texts)]
        image, text = self.encoders
        small = np.stack([thumbnail(p, self.settings.model.image_size) for p in pictures])  # (K, S, S, 3)
        context = {
            "image": image.embed([image.prepare(p) for p in pictures]),
            "text": text.embed([text.prepare(t) for t in texts]),
            "context_tokens": self.vocabulary.encode(texts, self.settings.model.text_length),
            "context_pictures": torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255,
        }
        if layers := self.settings.model.trainable_text_layers:
            context["text_states"], context["text_mask"] = LowerLayers(text, layers).states(texts)
        device = self.model.image_space.mean.device
        return {name: value[None].to(device) for name, value in context.items()}

    def _complete(self, images: Sequence[PictureLike | str], texts: Sequence[str]) -> Sequence[PictureLike | str]:
        """The images, if there are K of them and as many texts."""
        count = self.settings.data.context
        for name, given in (("pictures", images), ("texts", texts)):
            if isinstance(given, (str, Path, Image.Image)):
                raise PredictionError(f"Give the {name} as a list of {count}, in the order of the story.")
            if len(given) != count:
                raise PredictionError(
                    f"This model reads {count} pictures with a text each, in the order of the story, but was given "
                    f"{len(given)} {name}. Of a longer story give the last {count} pages."
                )
        for place, text in enumerate(texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise PredictionError(f"Picture {place} has no text. Say in a sentence or two what happens on it.")
        return images

    def nearest(self, expected: Tensor, given: Tensor, known: Known) -> tuple[Frame, Story, float] | tuple[()]:
        """The known picture nearest to the expected vector (Di,), leaving out those given, (K, Di)."""
        space = self.model.image_space
        bank = space(known.vectors.to(expected.device))
        scores = bank @ F.normalize(expected, dim=-1)
        scores = scores.masked_fill((bank @ space(given).T >= SAME).any(1), -torch.inf)
        best = int(scores.argmax())
        story, frame = known.places[best]
        return (frame, story, float(scores[best])) if scores[best].isfinite() else ()

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **options: Any) -> Any:
        """As in the library, but weights of another model are an error."""
        return super()._from_pretrained(strict=strict, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The README.md of a saved model, from its run's record."""
        return ModelCard(f"---\n{self._card_data().to_yaml()}\n---\n\n{model_card(self.settings, self.record)}")

    def _card_data(self) -> ModelCardData:
        data: ModelCardData = self._hub_mixin_info.model_card_data
        return data


def feature_sizes(weights: Path) -> list[int]:
    """Dimensions of the picture and text features that a model was trained on, from its weights."""
    with safe_open(weights, "pt") as file:
        return [file.get_slice(f"{part}_space.mean").get_shape()[0] for part in ("image", "text")]


def model_card(settings: Config, record: dict[str, Any]) -> str:
    """What a model is, what made it, how good it is and what it is not for, in Markdown."""
    count, data = settings.data.context, settings.data
    changed = [f"`{k}={v}`" for k, v in settings.flat().items() if v != Config().flat()[k] and k != "device"]
    text = f"""# {record.get("id", "A storyteller")}

Given {count} frames of an illustrated story, each a picture and a text, it predicts the next: its text, its picture,
and which known picture it would turn to.

```python
import storylib

storyteller = storylib.Storyteller.from_pretrained("the folder or repository of this card")
page = storyteller.predict(images, texts)  # {count} paths or PIL pictures, {count} texts
page.text, page.image
```

## How it was made

- Source of the stories: `{data.source}`
- Frozen encoders: `{data.image_encoder}` for pictures, `{data.text_encoder}` for texts
- Settings that differ from the defaults: {", ".join(changed) or "none"}
"""
    if record:
        stories, versions = record["data"]["stories"], record["versions"].items()
        text += f"""- {stories["train"]} stories to learn from, {stories["validation"]} to choose the best epoch by,
  {stories["test"]} held out for the test; fingerprint of the data: `{record["data"]["fingerprint"]}`
- {record["parameters"]:,} parameters; the best epoch was {record["best_epoch"]}; {record["seconds"]:.0f} s
  on {record["device"]}
- Code: commit `{record["commit"][:12]}`{" with changes" if record["dirty"] else ""};
  {", ".join(f"{name} {version}" for name, version in sorted(versions))}
"""
    if record.get("metrics"):
        text += """
## How good it is

On stories held out of training, beside the best predictor that learned nothing.

| metric | model | 95 % interval | best floor |
|---|---|---|---|
"""
        for m in record["metrics"]:
            (low, high), floor = m["interval"], m["best_floor"]
            best = f"{m['floors'][floor]:.3f} ({floor})"
            text += f"| {m['title']} | {m['value']:.3f} | {low:.3f} to {high:.3f} | {best} |\n"
    return f"""{text}
## What it is not for

It learned from few stories and tells accordingly: a subject of study, not an author. Its words and shapes are those of
the stories it was trained on, whose licences go on to hold for whatever repeats them.
"""
