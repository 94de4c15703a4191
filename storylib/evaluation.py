"""From a trained model to per-window scores, and from scores to metrics beside their floors.

A floor is scored by the same code as the model: to evaluation both are predictors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib import metrics
from storylib.decoders import Vocabulary
from storylib.floors import Prediction, copies, floors
from storylib.model import StoryModel
from storylib.statistics import Difference, interval, paired_difference, story_sums
from storylib.training import WindowDataset, forward_batches, page_texts

BLEU_COLUMNS = [f"bleu_{i}" for i in range(10)]
MODEL = "model"
ORACLE = "best of context"


@dataclass(frozen=True)
class Metric:
    """How per-window columns become one number: ``columns`` (N, C) of a table are summed, then reduced."""

    name: str
    title: str
    group: str
    columns: Callable[[pd.DataFrame], np.ndarray]
    reduce: Callable[[np.ndarray], np.ndarray]
    higher_is_better: bool = True
    digits: int = 1


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _mean_of(values: np.ndarray) -> np.ndarray:
    return np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1)


def _mean(column: str, title: str, group: str, scale: float = 1.0, higher: bool = True, digits: int = 3) -> Metric:
    return Metric(column, title, group, lambda t: _mean_of(scale * t[column].to_numpy(float)), _ratio, higher, digits)


def _recall(what: str, title: str, group: str, k: int) -> Metric:
    """Recall@k in percent; a predictor without ranks but with candidates is chance, and gets its expectation."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{what}_{c}"].to_numpy(float) for c in ("rank", "candidates"))
        hit = np.where(np.isnan(rank), metrics.chance_recall(count, k), rank <= k)
        return _mean_of(np.where(np.isnan(count), np.nan, 100 * hit))

    return Metric(f"{what}_recall@{k}", f"{title}, recall@{k}", group, columns, _ratio)


def _reciprocal_rank(what: str, title: str, group: str) -> Metric:
    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{what}_{c}"].to_numpy(float) for c in ("rank", "candidates"))
        chance = metrics.chance_reciprocal_rank(np.nan_to_num(count).astype(int))
        return _mean_of(np.where(np.isnan(count), np.nan, np.where(np.isnan(rank), chance, 1 / rank)))

    return Metric(f"{what}_mrr", f"{title}, mean reciprocal rank", group, columns, _ratio, digits=3)


def _per_token(*names: str) -> Callable[[pd.DataFrame], np.ndarray]:
    """Sum of nats (the first column, less the second if there is one) over the number of tokens."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        nats = table[names[0]].to_numpy(float) - (table[names[1]].to_numpy(float) if len(names) > 1 else 0)
        return np.stack([np.nan_to_num(nats), np.where(np.isnan(nats), 0, table["tokens"].to_numpy(float))], axis=1)

    return columns


def _bleu(sums: np.ndarray) -> np.ndarray:
    return np.where(sums[..., 9] > 0, metrics.bleu_from_counts(sums), np.nan)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in [
        *(_recall("image", "next picture", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("image", "next picture", "next frame"),
        *(_recall("text", "next text", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("text", "next text", "next frame"),
        _recall("page", "next page (picture and text)", "next frame", 10),
        _reciprocal_rank("page", "next page (picture and text)", "next frame"),
        _recall("image_story", "next picture within its story", "in story", 1),
        _recall("text_story", "next text within its story", "in story", 1),
        _recall("page_story", "next page within its story", "in story", 1),
        _recall("image_to_text", "picture to its text", "cross-modal", 10),
        _reciprocal_rank("image_to_text", "picture to its text", "cross-modal"),
        _recall("text_to_image", "text to its picture", "cross-modal", 10),
        _reciprocal_rank("text_to_image", "text to its picture", "cross-modal"),
        Metric("cross_entropy", "cross-entropy, nats a token", "text", _per_token("nll"), _ratio, False, 3),
        Metric("perplexity", "perplexity", "text", _per_token("nll"), lambda s: np.exp(_ratio(s)), False, 1),
        Metric("context_gap", "nats a token lost when the context is another story's", "text",
               _per_token("nll_shuffled", "nll"), _ratio, True, 3),
        Metric("bleu", "BLEU-4", "text", lambda t: np.nan_to_num(t[BLEU_COLUMNS].to_numpy(float)), _bleu, True, 2),
        _mean("rouge_l", "ROUGE-L", "text", 100, digits=1),
        _mean("meteor", "METEOR (exact + stem)", "text", 100, digits=1),
        _mean("chrf", "chrF", "text", digits=1),
        _mean("image_l1", "picture, mean absolute error", "picture", higher=False),
        _mean("image_ssim", "picture, structural similarity", "picture"),
    ]
}  # fmt: skip


def evaluate(
    model: StoryModel, vocabulary: Vocabulary, train: WindowDataset, held: WindowDataset
) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores of the model and of every floor on held-out windows, one row per predictor and page.

    Index-like columns: predictor, story, page (the target's). A page that no window ends on still has its row for
    cross-modal retrieval. The model's row also carries what it wrote, in ``generation``, the page it would turn to, in
    ``retrieved_story`` and ``retrieved_page``, and in ``picture`` its row in the second value, the pictures that it
    drew, (W, S, S, 3) uint8. What a decoder that was not trained would say is not scored.
    """
    for dataset in (train, held):
        dataset.embed_bank(model)
    truth = Truth(held, vocabulary)
    prediction = predict(model, vocabulary, held)
    row = np.arange(len(held)) if prediction.picture is not None else -1
    tables = {MODEL: truth.score(prediction).assign(picture=row)}
    tables |= {name: truth.score(p) for name, p in floors(train, held).items()}
    tables[ORACLE] = best_of([truth.score(p) for p in copies(held)])
    tables[MODEL] = tables[MODEL].merge(cross_modal(model, held), on=["story", "page"], how="outer")
    chance = tables[MODEL][["story", "page", "image_to_text_candidates", "text_to_image_candidates"]]
    tables["chance"] = tables["chance"].merge(chance, on=["story", "page"], how="outer")
    if prediction.picture is None:
        drawn = np.zeros((0, *held.pictures.shape[2:], 3), np.uint8)
    else:
        drawn = (prediction.picture * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pd.concat([t.assign(predictor=name) for name, t in tables.items()], ignore_index=True), drawn


@torch.inference_mode()
def predict(model: StoryModel, vocabulary: Vocabulary, held: WindowDataset) -> Prediction:
    """What the model says of each window: retrieval vectors and, of trained decoders, words, likelihoods, a picture."""
    model.eval()
    parts: dict[str, list[Any]] = defaultdict(list)
    rotated = Rotated(held)  # another story's context for each window
    for batch, other in zip(forward_batches(model, held), forward_batches(model, rotated), strict=True):
        out = model.read(batch["image"][:, :-1], batch["text"][:, :-1], model.texts(batch)[:, :-1])
        away = model.read(other["image"][:, :-1], other["text"][:, :-1], model.texts(other)[:, :-1])
        parts["image"].append(out["next_image"].cpu())
        parts["text"].append(out["next_text"].cpu())
        if held.draws:
            parts["picture"].append(model.image_decoder(out["state"], batch["context_pictures"]).clamp(0, 1).cpu())
        if held.writes:
            decode, tokens = model.text_decoder, batch["tokens"]
            parts["nll"].append(_nll(decode(out["story"], tokens.clamp(min=0), batch["context_tokens"]), tokens))
            shuffled = decode(away["story"], tokens.clamp(min=0), other["context_tokens"])
            parts["nll_shuffled"].append(_nll(shuffled, tokens))
            written = decode.generate(out["story"], batch["context_tokens"], length=model.config.text_length)
            parts["words"] += vocabulary.decode(written)
    joined: dict[str, Any] = {k: v if k == "words" else torch.cat(v) for k, v in parts.items()}
    if held.writes:
        joined["nll_shuffled"] = joined["nll_shuffled"].masked_fill(rotated.lonely, torch.nan)
    return Prediction(**joined)


class Rotated(WindowDataset):
    """The same windows, each with the frames of a window of another story, about half-way round the list."""

    def __init__(self, held: WindowDataset) -> None:
        self.__dict__.update(held.__dict__)
        story = held.story_id[held.frames[:, 0]]
        turned = (torch.arange(len(story)) + len(story) // 2) % len(story)
        for _ in range(len(story)):
            same = story[turned] == story
            if not same.any():
                break
            turned = torch.where(same, (turned + 1) % len(story), turned)
        self.lonely = story[turned] == story  # windows of the only story there is: no other to take a context from
        self.frames = held.frames[turned]


def _nll(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """(B,) summed over real tokens. log_probabilities: (B, T), tokens: (B, T) with -100 for padding."""
    return -(log_probabilities * (tokens != -100)).sum(1).cpu()


class Truth:
    """The held-out windows as the answer key: scores any prediction."""

    def __init__(self, held: WindowDataset, vocabulary: Vocabulary) -> None:
        self.held = held
        self.target = held.frames[:, -1]
        context = held.frames[:, :-1]
        own = torch.zeros(len(held), len(held.keys), dtype=torch.bool).scatter_(1, context, True)
        same_image = held.image_id[self.target][:, None] == held.image_id
        same_text = held.text_id[self.target][:, None] == held.text_id
        self.candidates = {
            "image": ~(own | same_image),
            "text": ~(own | same_text),
            "page": ~(own | (same_image & same_text)),
        }
        self.allowed = (
            ~own
        )  # what a reader could turn to: every page but the context, the target and its copies included
        self.in_story = held.story_id[self.target][:, None] == held.story_id
        self.references = [held.texts[i] for i in self.target]
        self.tokens = (held.tokens[self.target] != Vocabulary.PAD).sum(1)

    def score(self, prediction: Prediction) -> pd.DataFrame:
        """One row per window. Without any embedding the ranks are missing and only candidates are counted: chance."""
        keys = [self.held.keys[i] for i in self.target]
        table: dict[str, Any] = {"story": [k[0] for k in keys], "page": [k[1] for k in keys]}
        table |= self._retrieval(prediction)
        table["tokens"] = self.tokens.numpy()
        for name in ("nll", "nll_shuffled"):
            value = getattr(prediction, name)
            table[name] = np.nan if value is None else value.numpy()
        if prediction.words is not None:
            counts = metrics.bleu_counts(prediction.words, self.references)
            table |= dict(zip(BLEU_COLUMNS, counts.T, strict=True))
            for name, metric in (("rouge_l", metrics.rouge_l), ("meteor", metrics.meteor), ("chrf", metrics.chrf)):
                table[name] = metric(prediction.words, self.references)
            table["generation"] = prediction.words
        if prediction.picture is not None:
            truth = self.held.pictures[self.target].float() / 255
            table["image_l1"], table["image_ssim"] = metrics.image_errors(prediction.picture, truth)
        return pd.DataFrame(table)

    def _retrieval(self, prediction: Prediction) -> dict[str, Any]:
        scores = {
            name: F.normalize(vectors, dim=-1) @ self.held.bank[f"{name}_bank"].T
            for name, vectors in (("image", prediction.image), ("text", prediction.text))
            if vectors is not None
        }
        if len(scores) == 2:
            scores["page"] = scores["image"] + scores["text"]
        elif any(part is not None for part in vars(prediction).values()):
            return {}
        columns: dict[str, Any] = {}
        if scores:
            top = scores["page"].masked_fill(~self.allowed, -torch.inf).argmax(1)
            columns["retrieved_story"] = [self.held.keys[i][0] for i in top]
            columns["retrieved_page"] = [self.held.keys[i][1] for i in top]
        for name, candidates in self.candidates.items():
            for suffix, allowed in (("", candidates), ("_story", candidates & self.in_story)):
                counts = metrics.candidate_counts(self.target, allowed).float()
                rank = (
                    metrics.ranks(scores[name], self.target, allowed) if scores else torch.full_like(counts, torch.nan)
                )
                alone = counts < 2  # a story with nothing else to choose from asks no question
                columns[f"{name}{suffix}_rank"] = rank.masked_fill(alone, torch.nan).numpy()
                columns[f"{name}{suffix}_candidates"] = counts.masked_fill(alone, torch.nan).numpy()
        return columns


def best_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The best of several predictions, metric by metric and window by window: an oracle's choice."""
    best = tables[0].copy()
    for table in tables[1:]:
        for column in best.columns:
            if column.endswith("_rank") or column == "image_l1":
                best[column] = np.fmin(best[column], table[column])
            elif column in ("rouge_l", "meteor", "chrf", "image_ssim"):
                best[column] = np.fmax(best[column], table[column])
        better = (
            table["bleu_0"] / table["bleu_4"].clip(lower=1) > best["bleu_0"] / best["bleu_4"].clip(lower=1)
        ).to_numpy()
        best.loc[better, BLEU_COLUMNS] = table.loc[better, BLEU_COLUMNS]
    return best.drop(columns=["generation"])


@torch.inference_mode()
def cross_modal(model: StoryModel, held: WindowDataset) -> pd.DataFrame:
    """Ranks of each page's text given its picture and the reverse, in the space that the contrastive loss aligns."""
    image, text = (v.cpu() for v in model.shared(held.image, page_texts(model, held)))
    pages = torch.arange(len(held.keys))
    table: dict[str, Any] = {"story": [k[0] for k in held.keys], "page": [k[1] for k in held.keys]}
    for name, query, answer, ids in (
        ("image_to_text", image, text, held.text_id),
        ("text_to_image", text, image, held.image_id),
    ):
        candidates = ids[:, None] != ids[None, :]
        table[f"{name}_rank"] = metrics.ranks(query @ answer.T, pages, candidates).numpy()
        table[f"{name}_candidates"] = metrics.candidate_counts(pages, candidates).float().numpy()
    return pd.DataFrame(table)


def summarise(per_window: pd.DataFrame, draws: int = 2000) -> dict[str, dict[str, Any]]:
    """metrics.json: each metric of the model with its interval and every floor that can be scored.

    A metric for which no floor has a value is left out: a number without a floor means nothing.
    """
    summary = {}
    groups = dict(iter(per_window.groupby("predictor", sort=False)))
    model = groups.pop(MODEL)
    for name, metric in METRICS.items():
        values = {str(f): metric_value(metric, rows) for f, rows in groups.items()}
        known = {f: round(v, 6) for f, v in values.items() if v is not None}
        estimate = interval(sums_of(metric, model), metric.reduce, draws)
        if name == "context_gap":
            known = {"a model that ignores its context": 0.0}
        if known and np.isfinite(estimate.value):
            best = best_floor(known, metric.higher_is_better)
            gain = paired_gain(metric, model, groups[best], draws) if best in groups else estimate
            summary[name] = {
                "title": metric.title,
                "group": metric.group,
                "value": round(estimate.value, 6),
                "interval": [round(estimate.low, 6), round(estimate.high, 6)],
                "higher_is_better": metric.higher_is_better,
                "floors": known,
                "best_floor": best,
                "gain": round(gain.value, 6),
                "gain_interval": [round(gain.low, 6), round(gain.high, 6)],
            }
    return summary


def best_floor(floors: Mapping[str, float], higher_is_better: bool) -> str:
    """The floor that is hardest to beat; the oracle, which knows the answer, is none."""
    honest = {name: value for name, value in floors.items() if name != ORACLE}
    return (max if higher_is_better else min)(honest, key=lambda name: honest[name])


def paired_gain(metric: Metric, model: pd.DataFrame, floor: pd.DataFrame, draws: int = 2000) -> Difference:
    """The model minus a floor on the same stories, with its interval."""
    stories = set(model["story"]) & set(floor["story"])
    ours, theirs = (sums_of(metric, rows[rows["story"].isin(stories)]) for rows in (model, floor))
    return paired_difference(ours, theirs, metric.reduce, draws)


def metric_value(metric: Metric, rows: pd.DataFrame) -> float | None:
    """The metric over some rows; None where the predictor does not have it."""
    try:
        value = float(metric.reduce(metric.columns(rows).sum(0)))
    except KeyError:
        return None
    return value if np.isfinite(value) else None


def sums_of(metric: Metric, rows: pd.DataFrame) -> np.ndarray:
    """(seeds, stories, C) sums for the statistics; rows without a ``seed`` column are one seed."""
    seeds = rows["seed"] if "seed" in rows else pd.Series(0, index=rows.index)
    return story_sums(metric.columns(rows), rows["story"].to_numpy(), seeds.to_numpy())
