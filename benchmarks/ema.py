"""Does an exponential moving average of the weights earn its place? The same trainings, judged with and without it.

python -m benchmarks.ema [--source storyworld] [--seeds 0 1 2] [--decays 0.9 0.98 0.995]

The averages run along with one training and touch nothing, so every comparison is paired. Validation stories only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from storylib.config import Config, configure, project_root
from storylib.pictures import write_atomically
from storylib.runs import prepare, provenance
from storylib.training import Trainer, WindowDataset, build_model, build_vocabulary, cpu_threads, validate


class AveragingTrainer(Trainer):
    """A training that also keeps averages of its weights, and validates them after each epoch."""

    def keep_averages(self, decays: list[float]) -> None:
        self.averages = {d: AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(d)) for d in decays}
        self.found: dict[float, list[dict[str, float]]] = {d: [] for d in decays}

    def _update(self, *args: Any) -> None:
        super()._update(*args)
        for average in self.averages.values():
            average.update_parameters(self.model)

    def _keep(self, row: dict[str, Any]) -> None:
        super()._keep(row)
        for decay, average in self.averages.items():
            self.found[decay].append(validate(average.module, self.checks, self.config))


def best(rows: list[dict[str, float]]) -> dict[str, float]:
    """The epoch that a run would keep: its score, and how well it finds the next page."""
    scored = [(sum(v for k, v in r.items() if k not in ("contrastive", "page_mrr")), r["page_mrr"]) for r in rows]
    score, mrr = min(scored)
    return {"validation_score": round(score, 5), "page_mrr": round(mrr, 5)}


def measure(config: Config, decays: list[float]) -> dict[str, dict[str, float]]:
    data = prepare(config)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    train, held = (
        WindowDataset(data.features, part, vocabulary, config) for part in (data.splits.train, data.splits.validation)
    )
    with TemporaryDirectory() as folder, cpu_threads(config.train.threads):
        model = build_model(config, data.features, data.splits, vocabulary)
        trainer = AveragingTrainer(model, train, held, config.train, Path(folder))
        trainer.keep_averages(decays)
        while len(trainer.history) < config.train.epochs:
            trainer.epoch()
        prefix = "validation_"
        plain = [
            {k.removeprefix(prefix): v for k, v in r.items() if k.startswith(prefix) and k != "validation_score"}
            for r in trainer.history
        ]
        return {"none": best(plain)} | {str(d): best(rows) for d, rows in trainer.found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--decays", type=float, nargs="+", default=[0.9, 0.98, 0.995])
    parser.add_argument("--out", type=Path, default=project_root() / "results" / "ideas" / "ema.json")
    options = parser.parse_args()
    seeds = {}
    for seed in options.seeds:
        config = configure("quick", source=options.source, seed=seed, device="cpu")
        seeds[str(seed)] = measure(config, options.decays)
        print(seed, seeds[str(seed)], flush=True)
    gains = {
        str(decay): {
            name: round(mean(s[str(decay)][name] - s["none"][name] for s in seeds.values()), 5)
            for name in ("validation_score", "page_mrr")
        }
        for decay in options.decays
    }
    record = {
        "command": f"python -m benchmarks.ema --source {options.source} --seeds {' '.join(seeds)}",
        "title": "Averaged weights",
        "hypothesis": "An exponential moving average of the weights predicts better than the weights themselves.",
        "rows": [
            {
                "decay a step": decay,
                "validation losses − without": f"{gain['validation_score']:+.3f}",
                "next page, MRR − without": f"{gain['page_mrr']:+.3f}",
                "seeds": len(seeds),
            }
            for decay, gain in gains.items()
        ],
        "source": options.source,
        "epochs": config.train.epochs,
        "lower_is_better": ["validation_score"],
        "seeds": seeds,
        "mean_difference_to_none": gains,
        **provenance("cpu"),
    }
    write_atomically(options.out, json.dumps(record, indent=2) + "\n")
    print(json.dumps(gains, indent=2))


if __name__ == "__main__":
    main()
