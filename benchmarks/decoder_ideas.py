"""What helps the two decoders: ideas for the text and for the picture, each a short diff of the default.

    python -m benchmarks.decoder_ideas [--parts text image] [--sources storyworld african_storybook] [--seeds 0 1 2]
    python -m benchmarks.decoder_ideas --test    the default alone, once, on the test stories

Ideas are compared on validation stories only. A decoder is trained on its own, without the losses of the other one,
for as long as the quick profile trains. What is measured is recorded at once in results/ideas/decoder.json; a run that
was measured before by the same code is not trained again, so that a command that was cut off goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storylib import metrics
from storylib.config import Config, configure, digest, project_root, runs_dir
from storylib.decoders import Vocabulary
from storylib.encoders import load_image_encoder, load_text_encoder
from storylib.evaluation import Rotated
from storylib.model import StoryModel
from storylib.pictures import write_atomically
from storylib.pretraining import pretrain
from storylib.runs import TRAINING_CODE, Data, code_fingerprint, prepare, provenance
from storylib.statistics import interval, paired_difference, story_sums
from storylib.training import (
    WindowDataset,
    as_drawn,
    build_model,
    build_vocabulary,
    cpu_threads,
    fit,
    forward_batches,
    load_weights,
    save_weights,
)

IDEAS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {
        "default": {},
        "three layers": {"text_decoder": "gpt2-small"},
        "word dropout 0.1": {"word_dropout": 0.1},
        "word dropout 0.3": {"word_dropout": 0.3},
        "words from the text encoder": {"pretrained_words": True},
        "not pretrained": {"pretraining": 0},
        "pretrained for six epochs": {"pretraining": 6},
        "pretrained also on Pratham Books": {"pratham_books": True},
    },
    "image": {
        "default": {},
        "one picture only": {"image_decoder": "upsampling"},
        "no feature term": {"feature_weight": 0.0},
        "feature term 0.5": {"feature_weight": 0.5},
        "latent costs 0.0001": {"divergence_weight": 0.0001},
        "latent costs 0.01": {"divergence_weight": 0.01},
    },
}
ALONE = {
    "text": {"image_weight": 0.0, "next_image_weight": 0.0, "next_text_weight": 0.0, "contrastive_weight": 0.0},
    "image": {"text_weight": 0.0, "next_image_weight": 0.0, "next_text_weight": 0.0, "contrastive_weight": 0.0},
}
OTHER_CODE = {"text": ("image_decoders", "perception", "losses", "config"), "image": ("decoders", "config")}
MAIN = {"text": ("cross_entropy", "nats a word piece"), "image": ("l1 expected", "mean absolute error")}
TITLE, HYPOTHESIS = "Writing and drawing", "Each row changes one thing of the default and trains that decoder alone."
SAMPLES = 5
DIRECTIONS = (
    32  # principal ones of the true pictures' features: a covariance of 1,280 needs more pictures than there are
)
Sums = dict[str, Any]  # per metric (stories, 2): sums, and what they are divided by; or one number for all stories


def train(part: str, idea: dict[str, Any], config: Config, data: Data, folder: Path) -> tuple[StoryModel, Vocabulary]:
    """One decoder, trained as a run is, with an idea."""
    vocabulary = build_vocabulary(data.features, data.splits, config)
    with cpu_threads(config.train.threads):
        model = build_model(config, data.features, data.splits, vocabulary)
        if idea.get("pretrained_words"):
            start_from_the_encoder(model, vocabulary)
        if idea.get("pratham_books"):
            texts = [f.text for s in data.splits.train for f in s.frames] + pratham_books()
            pretrain(model.text_decoder, vocabulary.encode(texts, config.model.text_length), config.train)
    train_set, validation = (
        WindowDataset(data.features, stories, vocabulary, config)
        for stories in (data.splits.train, data.splits.validation)
    )
    settings = dataclasses.replace(config.train, pretraining=0) if idea.get("pratham_books") else config.train
    return fit(model, train_set, validation, settings, folder).model, vocabulary


def start_from_the_encoder(model: StoryModel, vocabulary: Vocabulary) -> None:
    """The text encoder's own embeddings of our word pieces, reduced to their principal directions."""
    network = load_text_encoder("minilm").network
    words = network.get_input_embeddings().weight[vocabulary.pieces]
    table = model.text_decoder.lm.get_input_embeddings().weight
    centred = words - words.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    reduced = centred @ directions[:, -table.shape[1] :]
    with torch.no_grad():
        table[3:] = reduced * table.std() / reduced.std()


def pratham_books() -> list[str]:
    """Pages of 396 English stories without pictures, where this machine has them; none otherwise."""
    folder = project_root().parent / "shared/data/pratham_books/en"
    stories = [p.read_text(encoding="utf-8").split("\n##\n")[1:] for p in sorted(folder.glob("*.md"))]
    return [" ".join(page.split()) for pages in stories for page in pages[:-1] if page.strip()]  # the last: the licence


@torch.inference_mode()
def score_text(model: StoryModel, held: WindowDataset, train_set: WindowDataset, seed: int) -> Sums:
    """Nats of each window's text, with its own context and with another story's."""
    model.eval()
    nats: dict[str, list[Tensor]] = {"own": [], "shuffled": []}
    for own, other in zip(forward_batches(model, held), forward_batches(model, Rotated(held)), strict=True):
        tokens = own["tokens"].clamp(min=0)
        for name, batch in (("own", own), ("shuffled", other)):
            story = model.read(batch["image"][:, :-1], batch["text"][:, :-1])["story"]
            likely = model.text_decoder(story, tokens, batch["context_tokens"])
            nats[name].append(-(likely * (own["tokens"] != -100)).sum(1))
    own_nats, shuffled = (torch.cat(n).numpy() for n in nats.values())
    count = (held.tokens[held.frames[:, -1]] != Vocabulary.PAD).sum(1).numpy()
    columns = {"cross_entropy": own_nats, "context_gap": shuffled - own_nats}
    return {name: per_story(held, value, count) for name, value in columns.items()}


@torch.inference_mode()
def score_image(model: StoryModel, held: WindowDataset, train_set: WindowDataset, seed: int) -> Sums:
    """Errors of the picture to expect, of the best of some samples and of the floors; sharpness; Fréchet distance."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, list[Tensor]] = defaultdict(list)
    for batch in forward_batches(model, held):
        state = model.read(batch["image"][:, :-1], batch["text"][:, :-1])["state"]
        context = batch["context_pictures"]
        made["expected"].append(model.image_decoder(state, context).clamp(0, 1))
        if hasattr(model.image_decoder, "sample"):
            made["samples"].append(model.image_decoder.sample(state, context, SAMPLES, generator).clamp(0, 1))
        made["context"].append(context)
        made["truth"].append(batch["picture"])
    pictures = {name: torch.cat(parts) for name, parts in made.items()}
    truth, context = pictures["truth"], pictures["context"]
    median = as_drawn(train_set.pictures[:].median(0).values).expand_as(truth)
    singles = {"expected": pictures["expected"], "median": median, "copy-last": context[:, -1]}
    several = {"best of context": context}
    if "samples" in pictures:
        singles["sample"] = pictures["samples"][:, 0]
        several[f"best of {SAMPLES}"] = pictures["samples"]
    errors = {name: l1(p, truth) for name, p in singles.items()}
    errors |= {name: l1(p, truth[:, None]).min(1) for name, p in several.items()}
    scores: Sums = {f"l1 {name}": per_story(held, e, np.ones(len(e))) for name, e in errors.items()}
    true_sharpness, true_features = metrics.sharpness(truth), features(truth)
    directions = np.linalg.svd(true_features - true_features.mean(0), full_matrices=False)[2][:DIRECTIONS].T
    for name in ("expected", "sample", "copy-last", "median"):
        if name in singles:
            scores[f"sharpness {name}"] = per_story(held, metrics.sharpness(singles[name]), true_sharpness)
            if name != "median":  # one picture is no cloud
                reduced = (f @ directions for f in (features(singles[name]), true_features))
                scores[f"frechet {name}"] = metrics.frechet_distance(*reduced)
    return scores


def l1(pictures: Tensor, truth: Tensor) -> np.ndarray:
    return (pictures - truth).abs().mean((-3, -2, -1)).numpy()


def per_story(held: WindowDataset, value: np.ndarray, count: np.ndarray) -> list[list[float]]:
    stories = np.array([held.keys[i][0] for i in held.frames[:, -1]])
    return story_sums(np.stack([value, count], axis=1), stories, np.zeros(len(stories)))[0].tolist()


def features(pictures: Tensor) -> np.ndarray:
    """(N, D) of the frozen network that also feeds the models, at the size in which pictures are drawn."""
    encoder = load_image_encoder("efficientnet_lite0")
    return np.concatenate([encoder.network(part * 2 - 1).numpy() for part in pictures.split(64)])


def run(part: str, name: str, source: str, seed: int, split: str, options: dict[str, Any]) -> Sums:
    """Scores of one idea with one seed, from an earlier call of this command if there was one."""
    idea = IDEAS[part][name]
    fields = {k: v for k, v in idea.items() if k not in ("pretrained_words", "pratham_books")}
    config = configure("quick", source=source, seed=seed, **(ALONE[part] | fields | options))
    code = code_fingerprint(tuple(m for m in TRAINING_CODE if m not in OTHER_CODE[part]))
    folder = runs_dir() / "ideas" / digest([config.flat(), idea, part, code])
    path = folder / f"{split}.json"
    if path.exists():
        return json.loads(path.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare(config)
    weights = folder / "trained.safetensors"
    started = time.process_time()
    if weights.exists():
        vocabulary = build_vocabulary(data.features, data.splits, config)
        model = build_model(config, data.features, data.splits, vocabulary)
        load_weights(model, weights)
    else:
        model, vocabulary = train(part, idea, config, data, folder)
        save_weights(model, weights)
    seconds = time.process_time() - started
    stories = {"validation": data.splits.validation, "test": data.splits.test}[split]
    held, train_set = (WindowDataset(data.features, s, vocabulary, config) for s in (stories, data.splits.train))
    scores = SCORERS[part](model, held, train_set, seed) | {"cpu_seconds": seconds}
    write_atomically(path, json.dumps(scores))
    return scores


SCORERS: dict[str, Callable[..., Sums]] = {"text": score_text, "image": score_image}


def summary(runs: list[Sums], baseline: list[Sums]) -> dict[str, Any]:
    """Each metric over the seeds with its interval, and the difference to the default's on the same seeds."""
    found: dict[str, Any] = {"seeds": len(runs)}
    for name, value in runs[0].items():
        if not isinstance(value, list):
            found[name] = [round(float(r[name]), 4) for r in runs]
            continue
        sums = np.array([r[name] for r in runs])
        estimate = interval(sums, ratio)
        found[name] = {"value": round(estimate.value, 4), "interval": [round(estimate.low, 4), round(estimate.high, 4)]}
        if runs is not baseline and len(baseline) >= len(runs) and name in baseline[0]:
            gap = paired_difference(sums, np.array([r[name] for r in baseline[: len(runs)]]), ratio)
            found[name]["difference"] = round(gap.value, 4)
            found[name]["difference_interval"] = [round(gap.low, 4), round(gap.high, 4)]
    return found


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of the page of what did not help: each idea's main number, and what it changes."""
    found = []
    for split in ("validation", "test"):
        for source, parts in record.get(split, {}).items():
            for part, ideas in parts.items():
                for idea, scores in ideas.items():
                    name, title = MAIN[part]
                    score = scores[name]
                    low, high = score.get("difference_interval", (0, 0))
                    gap = f"{score['difference']:+.3f} ({low:+.3f} to {high:+.3f})" if "difference" in score else ""
                    found.append({
                        "stories": f"{source.replace('_', ' ')}, {split}", "decoder": part, "idea": idea,
                        "seeds": scores["seeds"], "measure, lower is better": title,
                        "value": f"{score['value']:.3f}", "minus default": gap,
                    })  # fmt: skip
    return found


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", default=[*IDEAS], choices=[*IDEAS])
    parser.add_argument("--sources", nargs="+", default=["storyworld", "african_storybook"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ideas", nargs="+", help="only these; all of a part by default")
    parser.add_argument("--test", action="store_true", help="the default alone, on the test stories")
    parser.add_argument("--record", type=Path, default=project_root() / "results/ideas/decoder.json")
    options = parser.parse_args()
    split = "test" if options.test else "validation"
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    for seed in options.seeds:  # every idea with one seed before any with two
        for source in options.sources:
            for part in options.parts:
                done = record.setdefault(split, {}).setdefault(source, {}).setdefault(part, {})
                names = ["default"] if options.test else [n for n in IDEAS[part] if n in (options.ideas or IDEAS[part])]
                for name in names:
                    seeds = options.seeds[: options.seeds.index(seed) + 1]
                    runs = [run(part, name, source, s, split, {}) for s in seeds]
                    baseline = (
                        runs if name == "default" else [run(part, "default", source, s, split, {}) for s in seeds]
                    )
                    done[name] = {"change": IDEAS[part][name]} | summary(runs, baseline)
                    record |= {"title": TITLE, "hypothesis": HYPOTHESIS, "rows": rows(record)}
                    record["provenance"] = provenance("cpu")
                    options.record.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(options.record, json.dumps(record, indent=2) + "\n")
                    print(source, part, name, seed, json.dumps(done[name]), flush=True)


if __name__ == "__main__":
    main()
