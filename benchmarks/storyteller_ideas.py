"""What makes the next frame easier to find: each idea is a short diff of the default, judged on validation stories.

    python -m benchmarks.storyteller_ideas [--sources storyworld african_storybook] [--seeds 0 1 2]

Decoders are off: they read the same states. Runs are kept and found again, and results/ideas/retrieval.json
is written after each idea, so that a command that was cut off goes on. No test story is looked at.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from storylib.config import configure, project_root
from storylib.evaluation import MODEL, evaluate
from storylib.pictures import write_atomically
from storylib.protocol import METRICS
from storylib.runs import Data, prepare, provenance, train
from storylib.scores import best_floor
from storylib.statistics import interval, paired_difference
from storylib.training import WindowDataset

WITHOUT_DECODERS: dict[str, Any] = {"text_weight": 0.0, "image_weight": 0.0}
IDEAS: dict[str, dict[str, Any]] = {
    "default": {},
    "embedding read off the story state": {"next_embedding": "linear"},
    "no in-story term": {"story_weight": 0.0},
    "story state never corrects": {"state_dropout": 1.0},
    "story state corrects": {"state_dropout": 0.5},
    "correction in 256 directions": {"correction_rank": 256},
    "no dropout of features": {"feature_dropout": 0.0},
    "pictures attend to the texts": {"fusion": "cross_attention"},
    "transformer instead of GRU": {"temporal": "transformer"},
    "SigLIP": {"contrastive_loss": "siglip"},
    "fixed temperature": {"learned_temperature": False},
    "no contrastive loss": {"contrastive_weight": 0.0},
}
SHOWN = ("image_recall@10", "text_recall@10", "image_mrr", "text_mrr", "image_story_recall@1", "text_story_recall@1")
HYPOTHESIS = (
    "Each row changes one thing of the default and is trained with {seeds} seeds; scores are of validation stories. "
    "An interval that holds zero means that nothing was seen. Without their decoders, which read the same states."
)


def scored(idea: str, source: str, seed: int, data: Data) -> pd.DataFrame:
    """One row per predictor and page of the validation stories, for one training with an idea."""
    config = configure("quick", source=source, seed=seed, **WITHOUT_DECODERS, **IDEAS[idea])
    run = train(config, data)
    model, vocabulary = run.model(data), run.vocabulary()
    parts = (data.splits.train, data.splits.validation)
    known, held = (WindowDataset(data.features, stories, vocabulary, config) for stories in parts)
    return evaluate(model, vocabulary, known, held)[0].assign(seed=seed)


def summary(rows: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, Any]:
    """Each metric with its interval, its best floor, and its paired difference to the floor and to the default."""
    found: dict[str, Any] = {}
    groups = {str(name): part for name, part in rows.groupby("predictor")}
    model, default = groups.pop(MODEL), baseline[baseline["predictor"] == MODEL]
    for name in (n for n in SHOWN if n in METRICS):
        metric = METRICS[name]
        floors = {floor: value for floor, part in groups.items() if (value := metric.value(part)) is not None}
        best = best_floor(floors, metric)
        ours = metric.sums(model)
        entry = interval(ours, metric.reduce)
        found[name] = {"value": entry.value, "interval": [entry.low, entry.high], "floor": best, "at": floors[best]}
        for other, sums in {"floor": metric.sums(groups[best]), "default": metric.sums(default)}.items():
            gap = paired_difference(ours, sums, metric.reduce)
            found[name][f"minus {other}"] = [gap.value, gap.low, gap.high]
    return json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 4))


def rows(validation: dict[str, Any]) -> list[dict[str, str]]:
    """The page's table: each idea against the default, and where it then stands beside the best floor."""
    found = []
    for source, ideas in validation.items():
        for idea, scores in ideas.items():
            row = {"source": source.replace("_", " "), "idea": idea}
            for kind, title in (("image_mrr", "picture"), ("text_mrr", "text")):
                gap, floor = (_span(scores[kind][f"minus {other}"]) for other in ("default", "floor"))
                row |= {f"next {title}, MRR − default": "" if idea == "default" else gap, f"{title} − floor": floor}
            found.append(row)
    return found


def _span(gap: list[float]) -> str:
    return f"{gap[0]:+.3f} ({gap[1]:+.3f} to {gap[2]:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sources", nargs="+", default=["african_storybook", "storyworld"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--record", type=Path, default=project_root() / "results/ideas/retrieval.json")
    options = parser.parse_args()
    record: dict[str, Any] = {"command": f"python -m benchmarks.storyteller_ideas {shlex.join(sys.argv[1:])}".strip()}
    record |= {"title": "Finding the next page", "hypothesis": HYPOTHESIS.format(seeds=len(options.seeds))}
    record |= {"seeds": options.seeds, "validation": {}}
    for source in options.sources:
        data = prepare(configure("quick", source=source, **WITHOUT_DECODERS))
        done = record["validation"].setdefault(source, {})
        baseline: pd.DataFrame | None = None
        for idea in tqdm(IDEAS, desc=source, unit="idea"):
            scores = pd.concat([scored(idea, source, seed, data) for seed in options.seeds], ignore_index=True)
            baseline = scores if baseline is None else baseline
            done[idea] = {"change": IDEAS[idea]} | summary(scores, baseline)
            record |= {"rows": rows(record["validation"]), "provenance": provenance("cpu")}
            options.record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
