"""A trained storyteller without its data: it continues any pictures and texts, and can be saved, shared and loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from storylib.config import Config
from storylib.data.encoders import load_image_encoder, load_text_encoder
from storylib.data.features import Features, Rows
from storylib.data.pictures import PictureLike, open_picture, thumbnail
from storylib.data.types import Frame, Story
from storylib.data.vocabulary import Vocabulary, load_tokenizer
from storylib.data.windows import Batch, as_pixels
from storylib.experiments.records import Run
from storylib.model import FrozenSpace, StoryModel
from storylib.training import load_weights

Images: TypeAlias = "Sequence[PictureLike | str]"
SAME_PICTURE = 0.999  # cosine from which a known picture counts as one of the context's


class PredictionError(ValueError):
    """Pictures and texts that the model cannot read; the message says what it needs."""


@dataclass(frozen=True)
class KnownPictures:
    """Pictures to retrieve from: ``vectors`` (P, Di), and the story and frame of each."""

    vectors: Tensor
    sources: list[tuple[Story, Frame]]

    @classmethod
    def of(cls, stories: Sequence[Story], features: Features) -> KnownPictures:
        """Every different picture of these stories."""
        frames = [(story, frame) for story in stories for frame in story.frames]
        rows, first = np.unique(features.image_of[features.rows(stories)], return_index=True)
        return cls(Rows(features.image_vectors, rows)[:], [frames[i] for i in first])


class Retrieved(NamedTuple):
    """A known picture: its story and frame, and its centred cosine with the predicted picture."""

    story: Story
    frame: Frame
    similarity: float


class NextFrame(NamedTuple):
    """A predicted frame. Text or image is None if that decoder was not trained; nearest: known pictures, best first."""

    text: str | None
    image: Image.Image | None
    nearest: tuple[Retrieved, ...] = ()


class Storyteller(nn.Module, PyTorchModelHubMixin, library_name="storylib"):
    """A StoryModel with all it needs for new pictures and texts: configuration, vocabulary and encoders.

    settings: the flat configuration. pieces: the vocabulary's word pieces. dims: of the two frozen features (Di, Dt).
    record: of the run that trained it, with its metrics if it was evaluated; the model card is made from it.
    """

    def __init__(
        self, settings: dict[str, Any], pieces: list[int], dims: list[int], record: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.settings, self.record = Config().replace(**settings), record or {}
        data, model = self.settings.data, self.settings.model
        self.vocabulary = Vocabulary(load_tokenizer(model.text_decoder), pieces)
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten by the weights
            spaces = [FrozenSpace(dim, model.correction_rank) for dim in dims]
            self.model = StoryModel(model, spaces[0], spaces[1], self.vocabulary, data.context)

    @classmethod
    def of_run(cls, run: Run) -> Storyteller:
        """The storyteller of a finished run, at its best epoch."""
        evaluated = (run.path / "metrics.json").exists()
        record = run.record | ({"metrics": list(run.metrics.values())} if evaluated else {})
        pieces = json.loads((run.path / "vocabulary.json").read_text(encoding="utf-8"))
        with safe_open(run.weights, "pt") as file:
            dims = [file.get_slice(f"{side}_space.mean").get_shape()[0] for side in ("image", "text")]
        storyteller = cls(run.config.flat(), pieces, dims, record)
        load_weights(storyteller.model, run.weights)
        return storyteller.eval()

    @cached_property
    def encoders(self) -> tuple[Any, Any]:
        """The frozen image and text encoder, loaded when first used. Raises EncoderError."""
        return load_image_encoder(self.settings.data.image_encoder), load_text_encoder(self.settings.data.text_encoder)

    @torch.inference_mode()
    def predict(
        self, images: Images, texts: Sequence[str], known: KnownPictures | None = None, nearest: int = 1, **options: Any
    ) -> NextFrame:
        """The frame that follows K pictures and their texts, in the order of the story.

        images: paths or PIL pictures. known: pictures to retrieve the ``nearest`` few from, without the context's own.
        options: of the text decoder's ``generate``, such as ``mode="nucleus", seed=1``. Raises PredictionError for
        another number of pictures or texts or an empty text, and PictureError for a picture that cannot be read.
        """
        self.eval()
        batch = self.context_batch(images, texts)
        reading = self.model.read(batch["image"], batch["text"])
        text = image = None
        if self.settings.train.text_weight > 0:
            ids = self.model.text_decoder.generate(reading["story"], batch["context_tokens"], **options)
            text = self.vocabulary.decode(ids)[0]
        if self.settings.train.image_weight > 0:
            pixels = self.model.image_decoder(reading["state"], batch["context_pictures"])[0].clamp(0, 1)
            image = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        retrieved = self._retrieve(reading["next_image"][0], batch["image"][0], known, nearest) if known else ()
        return NextFrame(text, image, retrieved)

    def context_batch(self, images: Images, texts: Sequence[str]) -> Batch:
        """A batch of one context, without a target. Raises as ``predict`` does."""
        self._check_context(images, texts)
        settings, device = self.settings.model, self.model.image_space.mean.device
        pictures = [open_picture(Path(image) if isinstance(image, str) else image) for image in images]
        image_encoder, text_encoder = self.encoders
        thumbnails = np.stack([thumbnail(picture, settings.image_size) for picture in pictures])  # (K, S, S, 3)
        image = image_encoder.embed([image_encoder.prepare(picture) for picture in pictures])
        return {
            "image": image[None].to(device),
            "text": text_encoder.embed(texts)[None].to(device),
            "context_tokens": self.vocabulary.encode(texts, settings.text_length)[None].to(device),
            "context_pictures": as_pixels(torch.from_numpy(thumbnails))[None].to(device),
        }

    def _check_context(self, images: Images, texts: Sequence[str]) -> None:
        count = self.settings.data.context
        for name, values in (("pictures", images), ("texts", texts)):
            if isinstance(values, (str, Path, Image.Image)):
                raise PredictionError(f"Give the {name} as a list of {count}, in the order of the story.")
            if len(values) != count:
                needs = f"This model reads {count} pictures with a text each, in the order of the story,"
                raise PredictionError(f"{needs} but got {len(values)} {name}. Of a longer story give the last {count}.")
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise PredictionError(f"Picture {number} has no text. Say in a sentence or two what happens in it.")

    def _retrieve(self, predicted: Tensor, context: Tensor, known: KnownPictures, count: int) -> tuple[Retrieved, ...]:
        """The known pictures nearest to a predicted vector (Di,), without the context's own (K, Di)."""
        space = self.model.image_space
        bank = space(known.vectors.to(predicted.device))
        scores = bank @ F.normalize(predicted, dim=-1)
        scores = scores.masked_fill((bank @ space(context).T >= SAME_PICTURE).any(1), -torch.inf)
        best = [i for i in scores.topk(min(count, len(scores))).indices.tolist() if scores[i].isfinite()]
        return tuple(Retrieved(known.sources[i][0], known.sources[i][1], float(scores[i])) for i in best)

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **options: Any) -> Any:
        """As in the library, but weights of another model are an error."""
        return super()._from_pretrained(strict=strict, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The README.md of a saved model, from its run's record."""
        defaults, settings = Config().flat(), self.settings.flat()
        changed = ", ".join(f"`{k}={v}`" for k, v in settings.items() if v != defaults[k] and k != "device")
        template, facts = Path(__file__).with_name("model_card.md"), self._hub_mixin_info.model_card_data
        return ModelCard.from_template(facts, str(template), settings=settings, changed=changed, record=self.record)
