"""From a trained model to per-window scores; what they come to is in scores.

A floor is scored by the same code as the model: to evaluation both are predictors.
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

from storylib import metrics
from storylib.decoders import Vocabulary
from storylib.floors import SAMPLES, Prediction, Rotated, copies, floors
from storylib.judges import Judges
from storylib.model import StoryModel
from storylib.protocol import BLEU_COLUMNS, DIRECTIONS, MADE, TRUE
from storylib.training import WindowDataset, as_drawn, forward_batches, page_texts

MODEL = "model"
ORACLE = "best of context"
BLOCK = 256  # queries whose scores with all candidates are in memory at once


class EvaluationError(ValueError):
    """A prediction that cannot be scored; the message names the window."""


def evaluate(
    model: StoryModel,
    vocabulary: Vocabulary,
    train: WindowDataset,
    held: WindowDataset,
    judges: Judges | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores of the model and of every floor on held-out windows, one row per predictor and page.

    judges: without them the meaning of texts and the features of pictures are not scored. seed: of what is sampled.

    Index-like columns: predictor, story, page (the target's). A page that no window ends on still has its row for
    cross-modal retrieval. The model's row also carries what it wrote, in ``generation``, the page it would turn to, in
    ``retrieved_story`` and ``retrieved_page``, and in ``picture`` its row in the second value, the pictures that it
    drew, (W, S, S, 3) uint8. What a decoder that was not trained would say is not scored.
    """
    for dataset in (train, held):
        dataset.embed_bank(model)
    if judges is not None:
        judges.learn(train.texts + held.texts, torch.cat([train.text[:], held.text[:]]))
    truth = Truth(held, model, judges)
    prediction = predict(model, vocabulary, held, train, seed)
    predictors = {name: _asked(p, held) for name, p in floors(train, held, vocabulary).items()}
    predictors["chance"] = replace(predictors["chance"], shared=prediction.shared)
    tables = {MODEL: truth.score(prediction)}
    tables |= {name: truth.score(p) for name, p in predictors.items()}
    tables[ORACLE] = best_of([truth.score(_asked(p, held)) for p in copies(held)])
    row = np.arange(len(held)) if prediction.picture is not None else np.full(len(held), -1)
    tables[MODEL].loc[tables[MODEL]["tokens"].notna(), "picture"] = row
    if prediction.picture is None:
        drawn = held.pictures[:0].numpy()
    else:
        drawn = (prediction.picture * 255).round().byte().permute(0, 2, 3, 1).numpy()
    table = pd.concat([t.assign(predictor=name) for name, t in tables.items()], ignore_index=True)
    return table if "generation" in table else table.assign(generation=None), drawn


def _asked(prediction: Prediction, held: WindowDataset) -> Prediction:
    """A floor without the words or pictures that no model of this training has to stand beside."""
    if not held.writes:
        prediction = replace(prediction, words=None, nll=None, nll_shuffled=None, top1=None, top5=None)
    return prediction if held.draws else replace(prediction, picture=None, samples=None)


@torch.inference_mode()
def predict(
    model: StoryModel, vocabulary: Vocabulary, held: WindowDataset, train: WindowDataset | None = None, seed: int = 0
) -> Prediction:
    """What the model says of each window: retrieval vectors and, of trained decoders, words, likelihoods, pictures.

    train: the pages that the linear probe between pictures and texts is fitted on; without them there is none.
    """
    model.eval()
    parts: dict[str, list[Any]] = defaultdict(list)
    rotated = Rotated(held)  # another story's context for each window
    draw_many = getattr(model.image_decoder, "sample", None)  # a decoder that can draw several pictures of one window
    generator = torch.Generator().manual_seed(seed)
    for batch, other in zip(forward_batches(model, held), forward_batches(model, rotated), strict=True):
        out = model.read(batch["image"][:, :-1], batch["text"][:, :-1], model.texts(batch)[:, :-1])
        parts["image"].append(out["next_image"].cpu())
        parts["text"].append(out["next_text"].cpu())
        if held.draws:
            parts["picture"].append(model.image_decoder(out["state"], batch["context_pictures"]).clamp(0, 1).cpu())
            if draw_many is not None:
                several = draw_many(out["state"], batch["context_pictures"], SAMPLES, generator)
                parts["samples"].append(several.clamp(0, 1).cpu())
        if held.writes:
            away = model.read(other["image"][:, :-1], other["text"][:, :-1], model.texts(other)[:, :-1])
            decode, real = model.text_decoder, batch["tokens"] != -100
            tokens = batch["tokens"].clamp(min=0)
            said = decode.distribution(out["story"], tokens, batch["context_tokens"])
            for name, value in _likelihoods(said, tokens, real).items():
                parts[name].append(value.cpu())
            shuffled = decode(away["story"], tokens, other["context_tokens"])
            parts["nll_shuffled"].append(-(shuffled * real).sum(1).cpu())
            written = decode.generate(out["story"], batch["context_tokens"], length=model.config.text_length)
            parts["words"] += vocabulary.decode(written)
    joined: dict[str, Any] = {k: v if k == "words" else torch.cat(v) for k, v in parts.items()}
    if held.writes:
        joined["nll_shuffled"] = joined["nll_shuffled"].masked_fill(rotated.lonely, torch.nan)
    image, text = shared(model, held)
    if train is not None:
        joined["probed"] = F.normalize(
            metrics.apply_linear_map(metrics.fit_linear_map(*shared(model, train)), image), dim=-1
        )
    return Prediction(**joined, shared=(image, text))


def shared(model: StoryModel, data: WindowDataset) -> tuple[Tensor, Tensor]:
    """(P, W) pictures and texts of all pages in the space that the contrastive loss aligns."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        image, text = model.shared(data.image[:].to(device), page_texts(model, data).to(device))
    return image.cpu(), text.cpu()


def _likelihoods(said: Tensor, tokens: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Per window, from log-probabilities (B, T, V): nats of the real tokens, and how many came first or in the first 5.

    Ties share the mean rank, as everywhere.
    """
    own = said.gather(-1, tokens[..., None])
    rank = 1 + (said > own).sum(-1) + ((said == own).sum(-1) - 1) / 2  # (B, T)
    return {
        "nll": -(own[..., 0] * real).sum(1),
        "top1": ((rank <= 1) & real).sum(1),
        "top5": ((rank <= 5) & real).sum(1),
    }


class Truth:
    """The held-out windows as the answer key: scores any prediction."""

    def __init__(self, held: WindowDataset, model: StoryModel | None = None, judges: Judges | None = None) -> None:
        self.held, self.judges, self.model = held, judges, model
        self.target = held.frames[:, -1]
        self.context = held.frames[:, :-1]
        self.keys = [held.keys[i] for i in self.target]
        pages = {key: i for i, key in enumerate(zip(held.image_id.tolist(), held.text_id.tolist(), strict=True))}
        both = [pages[key] for key in zip(held.image_id.tolist(), held.text_id.tolist(), strict=True)]
        ids = {"image": held.image_id.tolist(), "text": held.text_id.tolist(), "page": both}
        target, context, stories = self.target.tolist(), self.context.tolist(), held.story_id.tolist()
        self.candidates = {
            f"{kind}{suffix}": metrics.Candidates.of(target, ids[kind], context, groups)
            for kind in ids
            for suffix, groups in (("", None), ("_story", stories))
        }
        every = range(len(held.keys))
        self.across = {
            "image_to_text": metrics.Candidates.of(every, ids["text"]),
            "text_to_image": metrics.Candidates.of(every, ids["image"]),
        }
        self.references = [metrics.plain(held.texts[i]) for i in self.target]
        self.tokens = (held.tokens[self.target] != Vocabulary.PAD).sum(1)
        self.pictures = as_drawn(held.pictures[self.target])
        rng = torch.Generator().manual_seed(0)
        self.other = torch.randint(len(held.keys), (len(held),), generator=rng)  # a page at random, to compare with
        self.basis = _directions(judges.pictures(self.pictures)) if judges is not None and held.draws else None

    def score(self, prediction: Prediction) -> pd.DataFrame:
        """One row per window, and with ``shared`` one per page.

        A prediction that ``guesses`` has no ranks, only candidates: its expectation is known without drawing.
        Raises EvaluationError where a part of it is not a number.
        """
        self.refuse_nan(prediction)
        table: dict[str, Any] = {"story": [k[0] for k in self.keys], "page": [k[1] for k in self.keys]}
        table |= self._retrieval(prediction)
        table["tokens"] = self.tokens.numpy()
        for name in ("nll", "nll_shuffled", "top1", "top5"):
            value = getattr(prediction, name)
            table[name] = np.nan if value is None else value.numpy()
        if prediction.words is not None:
            table |= self._writing([metrics.plain(text) for text in prediction.words])
        if prediction.picture is not None:
            table |= self._pictures(prediction.picture)
        if prediction.samples is not None:
            errors = (prediction.samples.clamp(0, 1) - self.pictures[:, None]).abs().mean((2, 3, 4))  # (W, k)
            table["best_l1"] = errors.amin(1).numpy()
            table["sample_spread"] = metrics.between_samples(prediction.samples)
        rows = pd.DataFrame(table)
        if prediction.shared is None:
            return rows
        return rows.merge(self._pages(prediction), on=["story", "page"], how="outer")

    def refuse_nan(self, prediction: Prediction) -> None:
        """A NaN is never scored: silently it would be a bad rank, or drop out of a mean."""
        for name in ("image", "text", "picture", "samples", "nll", "top1", "top5"):
            value = getattr(prediction, name)
            if value is not None and (bad := ~torch.isfinite(value).flatten(1 if value.ndim > 1 else 0)).any():
                row = int((bad.any(1) if value.ndim > 1 else bad).nonzero()[0])
                story, page = self.keys[row]
                raise EvaluationError(
                    f"The predicted {name} of the window that ends on page {page} of story {story!r} is not a number "
                    "(NaN or infinite), so it cannot be scored. Did the training diverge? See history.csv."
                )

    def _retrieval(self, prediction: Prediction) -> dict[str, Any]:
        if not prediction.guesses and prediction.image is None:
            return {}
        columns: dict[str, Any] = {}
        ranks: dict[str, list[Tensor]] = defaultdict(list)
        if prediction.image is not None and prediction.text is not None:
            bank, found = self.held.bank, []
            image, text = F.normalize(prediction.image, dim=-1), F.normalize(prediction.text, dim=-1)
            for start in range(0, len(image), BLOCK):
                scores = {
                    "image": image[start : start + BLOCK] @ bank["image_bank"].T,
                    "text": text[start : start + BLOCK] @ bank["text_bank"].T,
                }
                scores["page"] = scores["image"] + scores["text"]
                for name, candidates in self.candidates.items():
                    ranks[name].append(candidates.ranks(scores[name.removesuffix("_story")], start))
                # What a reader could turn to: every page but the context, the target and its copies included.
                seen = self.context[start : start + BLOCK]
                found += scores["page"].scatter(1, seen, -torch.inf).argmax(1).tolist()
            columns["retrieved_story"], columns["retrieved_page"] = zip(
                *(self.held.keys[i] for i in found), strict=True
            )
            for kind, vectors in (("image", image), ("text", text)):
                columns[f"{kind}_cosine"] = (vectors * bank[f"{kind}_bank"][self.target]).sum(1).numpy()
                columns[f"{kind}_cosine_other"] = (vectors * bank[f"{kind}_bank"][self.other]).sum(1).numpy()
        for name, candidates in self.candidates.items():
            counts = candidates.counts.double()
            alone = counts < 2  # a story with nothing else to choose from asks no question
            rank = torch.cat(ranks[name]) if ranks else torch.full_like(counts, torch.nan)
            columns[f"{name}_rank"] = rank.double().masked_fill(alone, torch.nan).numpy()
            columns[f"{name}_candidates"] = counts.masked_fill(alone, torch.nan).numpy()
        return columns

    def _writing(self, texts: Sequence[str]) -> dict[str, Any]:
        columns: dict[str, Any] = dict(zip(BLEU_COLUMNS, metrics.bleu_counts(texts, self.references).T, strict=True))
        meteor = "meteor" if metrics.meteor_name() == metrics.METEOR else "meteor_exact_stem"
        scorers = {"rouge_l": metrics.rouge_l, meteor: metrics.meteor, "chrf": metrics.chrf, "cider_d": metrics.cider_d}
        columns |= {name: scorer(texts, self.references) for name, scorer in scorers.items()}
        for n in (1, 2):
            for whose, those in (("made", texts), ("true", self.references)):
                columns[f"{whose}_kinds_{n}"], columns[f"{whose}_grams_{n}"] = metrics.distinct_counts(those, n).T
        columns["words"], columns["true_words"] = (
            [len(metrics.words(t)) for t in those] for those in (texts, self.references)
        )
        if self.judges is not None and self.model is not None:
            space = self.model.text_space
            meant = space(self.judges.texts(list(texts)).to(space.mean)).cpu()
            columns["text_similarity"] = (meant * self.held.bank["text_bank"][self.target]).sum(1).numpy()
        columns["generation"] = list(texts)
        return columns

    def _pictures(self, pictures: Tensor) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        columns["image_l1"], columns["image_ssim"] = metrics.image_errors(pictures, self.pictures)
        columns["sharpness"], columns["true_sharpness"] = (metrics.sharpness(p) for p in (pictures, self.pictures))
        if self.judges is not None and self.basis is not None:
            for names, those in ((MADE, pictures), (TRUE, self.pictures)):
                found = self.judges.pictures(those) @ self.basis
                columns |= dict(zip(names, found.T.astype(np.float32), strict=False))
        return columns

    def _pages(self, prediction: Prediction) -> pd.DataFrame:
        """One row per page: how pictures and texts lie to each other, and whether they find each other."""
        assert prediction.shared is not None
        image, text = prediction.shared
        keys, nan = self.held.keys, torch.full((len(self.held.keys),), torch.nan)
        queries = {"image_to_text": (image, text), "text_to_image": (text, image)}
        if prediction.probed is not None or prediction.guesses:
            queries["probe"] = (image if prediction.probed is None else prediction.probed, text)
        table: dict[str, Any] = {"story": [k[0] for k in keys], "page": [k[1] for k in keys]}
        for name, (query, answers) in queries.items():
            candidates = self.across["image_to_text" if name == "probe" else name]
            ranks = nan if prediction.guesses else metrics.ranks_by_block(query, answers, candidates, BLOCK)
            table[f"{name}_rank"] = ranks.numpy()
            table[f"{name}_candidates"] = candidates.counts.double().numpy()
        if prediction.guesses:  # the same clouds, with what is measured taken out of them by chance
            table["alignment"] = metrics.chance_alignment(image, text).numpy()
            image, text = metrics.shuffled_pairs(image, text)
            noise = torch.randn(2, *image.shape, generator=torch.Generator().manual_seed(0))
            directions: Sequence[Tensor] = F.normalize(noise, dim=-1).unbind()
        else:
            table["alignment"] = metrics.alignment_distance(image, text).numpy()
            directions = image, text
        table["modality_gap"] = metrics.modality_gap(image, text).numpy()
        for name, vectors in zip(("image_uniformity", "text_uniformity"), directions, strict=True):
            table[name] = metrics.uniformity(vectors).numpy()
        return pd.DataFrame(table)


LARGER, SMALLER = ("rouge_l", "meteor", "meteor_exact_stem", "chrf", "cider_d", "text_similarity", "image_ssim",
                   "image_cosine", "text_cosine"), ("image_l1",)  # fmt: skip


def best_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The best of several predictions, metric by metric and window by window: an oracle's choice.

    What is no property of a single window, such as variety, has no best.
    """
    best = tables[0].copy()
    if "bleu_0" in best:
        precision = [t["bleu_0"] / t["bleu_4"].clip(lower=1) for t in tables]
        choice = np.argmax(precision, axis=0)
        best[BLEU_COLUMNS] = np.stack([t[BLEU_COLUMNS].to_numpy() for t in tables])[choice, np.arange(len(best))]
    for column in best.columns:
        every = [t[column] for t in tables]
        if column.endswith("_rank") or column in SMALLER:
            best[column] = np.fmin.reduce(every)
        elif column in LARGER:
            best[column] = np.fmax.reduce(every)
    kept = [c for c in best if c in (*LARGER, *SMALLER, *BLEU_COLUMNS) or str(c).endswith(("_rank", "_candidates"))]
    return best[["story", "page", "tokens", *kept]]


def _directions(features: np.ndarray) -> np.ndarray:
    """(D, DIRECTIONS) principal directions of features (N, D), in units of the largest's standard deviation."""
    centred = features - features.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    basis = np.zeros((features.shape[1], DIRECTIONS))
    count = min(DIRECTIONS, len(directions))
    basis[:, :count] = directions[:count].T / max(lengths[0] / np.sqrt(len(features)), 1e-12)
    return basis
