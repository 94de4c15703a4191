"""From a trained model, or a baseline, to per-window scores. Both are predictions, scored by the same code.

``storylib.metrics.summary`` reduces the scores to metrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.baselines import SAMPLES, Prediction, baselines, copy
from storylib.data.scoring import ScoringEncoders
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import OtherStories, WindowDataset, as_pixels
from storylib.decoders import text_context
from storylib.metrics.alignment import alignment_columns, apply_linear_map, fit_linear_map
from storylib.metrics.frechet import principal_directions
from storylib.metrics.images import between_samples, picture_columns
from storylib.metrics.registry import MODEL, ORACLE, PREDICTED, TRUE
from storylib.metrics.retrieval import Candidates, ranks_by_block
from storylib.metrics.summary import best_of
from storylib.metrics.text import plain, text_columns
from storylib.model import StoryModel

BLOCK = 256  # queries whose scores with all candidates are in memory at once


class EvaluationError(ValueError):
    """A prediction that cannot be scored; the message names the window."""


def evaluate(
    model: StoryModel,
    vocabulary: Vocabulary,
    train: WindowDataset,
    held_out: WindowDataset,
    encoders: ScoringEncoders | None = None,
    seed: int = 0,
    baseline_rows: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores of the model and of every baseline on held-out windows: one row per predictor and frame.

    encoders: without them the meaning of texts and the features of pictures are not scored. seed: of what is sampled.
    baseline_rows: the result of ``score_baselines``, if it is known already.

    Rows are indexed by predictor, story and frame (the target's number). A frame that no window ends on still has a
    row, for cross-modal retrieval. The model's rows also hold what it wrote (``generation``), the frame it retrieved
    (``retrieved_story``, ``retrieved_frame``), and the row of its pictures in the second value, (W, n, S, S, 3)
    uint8 (``picture``): the likeliest one, then two samples if it can draw several.
    """
    if baseline_rows is None:
        baseline_rows = score_baselines(model, vocabulary, train, held_out, encoders)
    targets = _targets(model, train, held_out, encoders)
    prediction = predict(model, vocabulary, held_out, train, seed)
    drawn = held_out.pictures[:0].numpy()[:, None]
    picture_row = np.full(len(held_out), -1)
    if prediction.picture is not None:
        pictures = prediction.picture[:, None]
        if prediction.samples is not None:
            pictures = torch.cat([pictures, prediction.samples[:, :2]], dim=1)
        drawn = (pictures * 255).round().byte().movedim(2, -1).numpy()
        picture_row = np.arange(len(held_out))
    rows = targets.score(prediction).assign(predictor=MODEL)
    rows.loc[rows["tokens"].notna(), "picture"] = picture_row
    tables = [rows]
    for name, table in baseline_rows.groupby("predictor", sort=False):
        if name == "chance" and prediction.shared is not None:  # of cross-modal retrieval: for this model's vectors
            shared_by_chance = Prediction(shared=prediction.shared, described=prediction.described, random=True)
            table = targets.add_cross_modal(table.dropna(axis=1, how="all"), shared_by_chance).assign(predictor=name)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table if "generation" in table else table.assign(generation=None), drawn


def score_baselines(
    model: StoryModel,
    vocabulary: Vocabulary,
    train: WindowDataset,
    held_out: WindowDataset,
    encoders: ScoringEncoders | None = None,
) -> pd.DataFrame:
    """Scores of every baseline, and of the best context frame (``ORACLE``): one row per predictor and window.

    They depend on the data and on the model's frozen spaces, so all arms and seeds share them.
    """
    targets = _targets(model, train, held_out, encoders)
    predictions = baselines(train, held_out, vocabulary)
    tables = {name: targets.score(prediction) for name, prediction in predictions.items()}
    context = range(held_out.frames.shape[1] - 1)
    tables[ORACLE] = best_of([targets.score(copy(held_out, position)) for position in context])
    return pd.concat([table.assign(predictor=name) for name, table in tables.items()], ignore_index=True)


def _targets(
    model: StoryModel, train: WindowDataset, held_out: WindowDataset, encoders: ScoringEncoders | None
) -> Targets:
    for dataset in (train, held_out):
        dataset.embed_bank(model.image_space, model.text_space)
    if encoders is not None:
        encoders.remember(train.texts + held_out.texts, torch.cat([train.text[:], held_out.text[:]]))
    return Targets(held_out, model, encoders)


@torch.inference_mode()
def predict(
    model: StoryModel, vocabulary: Vocabulary, held_out: WindowDataset, train: WindowDataset, seed: int = 0
) -> Prediction:
    """What the model predicts for each window: embeddings and, with trained decoders, words, likelihoods, pictures.

    train: the frames that the linear probe from pictures to texts is fitted on.
    """
    model.eval()
    device = next(model.parameters()).device
    parts: dict[str, list[Any]] = defaultdict(list)
    others = OtherStories(held_out)
    sample = getattr(model.image_decoder, "sample", None)
    generator = torch.Generator().manual_seed(seed)
    for batch, other in zip(held_out.batches(device), others.batches(device), strict=True):
        reading = model.read_windows(batch)
        parts["image"].append(reading["next_image"].cpu())
        parts["text"].append(reading["next_text"].cpu())
        if held_out.draws:
            context = batch["context_pictures"]
            parts["picture"].append(model.image_decoder(reading["state"], context).clamp(0, 1).cpu())
            if sample is not None:
                parts["samples"].append(sample(reading["state"], context, SAMPLES, generator).clamp(0, 1).cpu())
        if held_out.writes:
            real = batch["tokens"] != -100
            tokens = batch["tokens"].clamp(min=0)
            own, rank = model.text_decoder.ranked(reading["story"], tokens, text_context(batch))
            parts["nll"].append(-(own * real).sum(1).cpu())
            parts["top1"].append(((rank <= 1) & real).sum(1).cpu())
            parts["top5"].append(((rank <= 5) & real).sum(1).cpu())
            other_story = model.read_windows(other)["story"]
            shuffled = model.text_decoder(other_story, tokens, text_context(other))
            parts["nll_shuffled"].append(-(shuffled * real).sum(1).cpu())
            ids = model.text_decoder.generate(reading["story"], batch["context_tokens"])
            parts["words"] += vocabulary.decode(ids)
    joined: dict[str, Any] = {name: part if name == "words" else torch.cat(part) for name, part in parts.items()}
    if held_out.writes:
        joined["nll_shuffled"] = joined["nll_shuffled"].masked_fill(others.unchanged, torch.nan)
    image, text = shared(model, held_out)
    if held_out.described.any():
        rows = held_out.described
        joined["described"] = image[rows], shared(model, held_out, descriptions=True)[1][rows]
    probe = fit_linear_map(*shared(model, train))
    joined["probed"] = F.normalize(apply_linear_map(probe, image), dim=-1)
    return Prediction(**joined, shared=(image, text))


@torch.inference_mode()
def shared(model: StoryModel, data: WindowDataset, descriptions: bool = False) -> tuple[Tensor, Tensor]:
    """(F, W) pictures and texts (or descriptions) of all frames in the space that the contrastive loss aligns."""
    device = next(model.parameters()).device
    texts = data.description if descriptions else data.text
    image, text = model.shared(data.image[:].to(device), texts[:].to(device))
    return image.cpu(), text.cpu()


class Targets:
    """The true next frames of held-out windows: scores any prediction."""

    def __init__(
        self, held_out: WindowDataset, model: StoryModel | None = None, encoders: ScoringEncoders | None = None
    ) -> None:
        self.held_out, self.encoders, self.model = held_out, encoders, model
        self.target = held_out.frames[:, -1]
        self.context = held_out.frames[:, :-1]
        self.keys = [held_out.keys[i] for i in self.target]
        image_ids, text_ids = held_out.image_id.tolist(), held_out.text_id.tolist()
        first: dict[tuple[int, int], int] = {}
        frame_ids = [first.setdefault(pair, i) for i, pair in enumerate(zip(image_ids, text_ids, strict=True))]
        target, context, stories = self.target.tolist(), self.context.tolist(), held_out.story_id.tolist()
        self.candidates: dict[str, Candidates] = {}
        for kind, ids in (("image", image_ids), ("text", text_ids), ("frame", frame_ids)):
            self.candidates[kind] = Candidates(target, ids, context)
            self.candidates[f"{kind}_in_story"] = Candidates(target, ids, context, stories)
        every = range(len(held_out.keys))
        described = held_out.described
        self.cross_modal = {
            "image_to_text": Candidates(every, text_ids),
            "text_to_image": Candidates(every, image_ids),
            # Both among the described frames, so that they differ only in what the text says.
            "image_to_description": Candidates(range(int(described.sum())), held_out.description_id[described]),
            "described_image_to_text": Candidates(range(int(described.sum())), held_out.text_id[described]),
        }
        self.references = [plain(held_out.texts[i]) for i in self.target]
        self.tokens = (held_out.tokens[self.target] != Vocabulary.PAD).sum(1)
        scored = [held_out.scored_texts[i] for i in self.target]
        self.lengths = {"scored_words": [len(text.split()) for text in scored], "scored_letters": [*map(len, scored)]}
        self.pictures = as_pixels(held_out.pictures[self.target])
        self.basis = None
        if encoders is not None and held_out.draws:
            self.basis = principal_directions(encoders.pictures(self.pictures))

    def score(self, prediction: Prediction) -> pd.DataFrame:
        """One row per window and, of a prediction with ``shared``, one per frame.

        A random prediction has no ranks, only candidates: its expectation is known without drawing. What an untrained
        decoder would predict is not scored. Raises EvaluationError where a part of the prediction is not finite.
        """
        if not self.held_out.writes:
            prediction = replace(prediction, words=None, nll=None, nll_shuffled=None, top1=None, top5=None)
        if not self.held_out.draws:
            prediction = replace(prediction, picture=None, samples=None)
        self.check_finite(prediction)
        table: dict[str, Any] = {"story": [k[0] for k in self.keys], "frame": [k[1] for k in self.keys]}
        if prediction.image is not None and prediction.text is not None:
            table |= self._retrieval(prediction.image, prediction.text)
        elif prediction.random:
            table |= self._rank_columns({})
        table["tokens"] = self.tokens.numpy()
        table |= self.lengths
        for name in ("nll", "nll_shuffled", "top1", "top5"):
            value = getattr(prediction, name)
            table[name] = np.nan if value is None else value.numpy()
        if prediction.words is not None:
            table |= self._text([plain(text) for text in prediction.words])
        if prediction.picture is not None:
            table |= self._picture(prediction.picture)
        if prediction.samples is not None:
            errors = (prediction.samples.clamp(0, 1) - self.pictures[:, None]).abs().mean((2, 3, 4))  # (W, k)
            table["best_l1"] = errors.amin(1).numpy()
            table["sample_spread"] = between_samples(prediction.samples)
        rows = pd.DataFrame(table)
        return rows if prediction.shared is None else self.add_cross_modal(rows, prediction)

    def check_finite(self, prediction: Prediction) -> None:
        """A NaN is never scored: unnoticed, it would be a bad rank, or drop out of a mean."""
        for name in ("image", "text", "picture", "samples", "nll", "top1", "top5"):
            value = getattr(prediction, name)
            if value is None:
                continue
            finite = torch.isfinite(value).reshape(len(value), -1).all(1)
            if not finite.all():
                story, frame = self.keys[int((~finite).nonzero()[0])]
                raise EvaluationError(
                    f"The predicted {name} of the window that ends on frame {frame} of story {story!r} is not a number "
                    "(NaN or infinite), so it cannot be scored. Did the training diverge? See history.csv."
                )

    def _retrieval(self, image: Tensor, text: Tensor) -> dict[str, Any]:
        image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
        image_bank, text_bank = self.held_out.image_bank, self.held_out.text_bank
        ranks: dict[str, list[Tensor]] = defaultdict(list)
        retrieved: list[int] = []
        for start in range(0, len(image), BLOCK):
            block = slice(start, start + BLOCK)
            scores = {"image": image[block] @ image_bank.T, "text": text[block] @ text_bank.T}
            scores["frame"] = scores["image"] + scores["text"]
            for name, candidates in self.candidates.items():
                ranks[name].append(candidates.ranks(scores[name.removesuffix("_in_story")], start))
            # A reader could turn to any frame but the context's; the target's copies count too.
            retrieved += scores["frame"].scatter(1, self.context[block], -torch.inf).argmax(1).tolist()
        columns = self._rank_columns({name: torch.cat(parts) for name, parts in ranks.items()})
        keys = [self.held_out.keys[i] for i in retrieved]
        columns["retrieved_story"], columns["retrieved_frame"] = zip(*keys, strict=True)
        for kind, vectors, bank in (("image", image, image_bank), ("text", text, text_bank)):
            columns[f"{kind}_cosine"] = (vectors * bank[self.target]).sum(1).numpy()
        return columns

    def _rank_columns(self, ranks: dict[str, Tensor]) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name, candidates in self.candidates.items():
            counts = candidates.counts.double()
            no_choice = counts < 2  # a story without other frames poses no question
            rank = ranks.get(name, torch.full_like(counts, torch.nan))
            columns[f"{name}_rank"] = rank.double().masked_fill(no_choice, torch.nan).numpy()
            columns[f"{name}_candidates"] = counts.masked_fill(no_choice, torch.nan).numpy()
        return columns

    def _text(self, texts: Sequence[str]) -> dict[str, Any]:
        columns = text_columns(texts, self.references)
        if self.encoders is not None and self.model is not None:
            space = self.model.text_space
            vectors = space(self.encoders.texts(list(texts)).to(space.mean)).cpu()
            columns["text_similarity"] = (vectors * self.held_out.text_bank[self.target]).sum(1).numpy()
        return columns

    def _picture(self, pictures: Tensor) -> dict[str, Any]:
        columns = picture_columns(pictures, self.pictures)
        if self.encoders is not None and self.basis is not None:
            for names, part in ((PREDICTED, pictures), (TRUE, self.pictures)):
                features = self.encoders.pictures(part) @ self.basis
                columns |= dict(zip(names, features.T.astype(np.float32), strict=False))
        return columns

    def add_cross_modal(self, rows: pd.DataFrame, prediction: Prediction) -> pd.DataFrame:
        """A row per frame: whether its picture and text find each other, and how the two clouds lie."""
        assert prediction.shared is not None
        image, text = prediction.shared
        keys = self.held_out.keys
        every = torch.ones(len(keys), dtype=torch.bool)
        tasks = [("image_to_text", image, text, every), ("text_to_image", text, image, every)]
        if prediction.probed is not None or prediction.random:
            probed = image if prediction.probed is None else prediction.probed
            tasks.append(("probe", probed, text, every))
        if prediction.described is not None:
            described = self.held_out.described
            tasks.append(("image_to_description", *prediction.described, described))
            tasks.append(("described_image_to_text", image[described], text[described], described))
        table: dict[str, Any] = {"story": [k[0] for k in keys], "frame": [k[1] for k in keys]}
        for name, queries, answers, asked in tasks:
            candidates = self.cross_modal["image_to_text" if name == "probe" else name]
            ranks, counts = (torch.full((len(keys),), torch.nan, dtype=torch.double) for _ in range(2))
            if not prediction.random:
                ranks[asked] = ranks_by_block(queries, answers, candidates).double()
            counts[asked] = candidates.counts.double()
            table[f"{name}_rank"], table[f"{name}_candidates"] = ranks.numpy(), counts.numpy()
        frames = pd.DataFrame(table | alignment_columns(image, text, prediction.random))
        return rows.merge(frames, on=["story", "frame"], how="outer")
