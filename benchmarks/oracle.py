"""What could an alignment of pictures and texts buy at most?

    python -m benchmarks.oracle [--source picture_books] [--profile full] [--seeds 3]

An oracle is trained and tested with the target's own picture, and is judged by the words; another with the target's own
text, and is judged by the picture. Where it gains nothing, this model cannot use the other modality. Both are compared
with the same model without the contrastive loss, paired by seed and window. Nothing is written, which would take most
of the time.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import torch

from benchmarks.records import publish_study
from storylib.baselines import Prediction
from storylib.config import configure, seeds
from storylib.data.device import cpu_threads
from storylib.data.windows import WindowDataset
from storylib.decoders import text_context
from storylib.evaluation import Targets
from storylib.experiments.comparison import compare_rows
from storylib.experiments.records import Run, describe, pooled_rows
from storylib.experiments.runs import Data, evaluate_run, prepare, train
from storylib.experiments.storyteller import Storyteller
from storylib.experiments.studies import Factor, ablation_factor
from storylib.metrics.registry import MODEL

JUDGED_BY = {"target picture": "nats_per_word", "target text": "picture_distance"}


@torch.inference_mode()
def score(run: Run, data: Data) -> pd.DataFrame:
    """The likelihoods and pictures of a run, scored: one row per held-out window."""
    storyteller = Storyteller.of_run(run)
    model = storyteller.model.eval()
    held_out = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, run.config)
    nll, pictures = [], []
    for batch in held_out.batches("cpu"):
        reading, tokens = model.read_windows(batch), batch["tokens"].clamp(min=0)
        own, _ = model.text_decoder.ranked(reading["story"], tokens, text_context(batch))
        nll.append(-(own * (batch["tokens"] != -100)).sum(1))
        pictures.append(model.image_decoder(reading["state"], batch["context_pictures"]).clamp(0, 1))
    prediction = Prediction(nll=torch.cat(nll), picture=torch.cat(pictures))
    return Targets(held_out).score(prediction).assign(predictor=MODEL, seed=run.config.train.seed)


def measure(source: str, profile: str, count: int) -> dict[str, Any]:
    """The row of each oracle's endpoint in its comparison with the model, and the runs behind it."""
    factor = ablation_factor()
    configs = [configure(profile, factor.arms[1], source=source, seed=seed) for seed in seeds(profile)[:count]]
    data = prepare(configs[0])
    model = pooled_rows([evaluate_run(train(config, data), data) for config in configs])
    model = model[(model["predictor"] != MODEL) | model["tokens"].notna()]  # without frames that no window ends on
    rows = []
    for inputs, metric in JUDGED_BY.items():
        runs = [train(config.replace(inputs=inputs), data) for config in configs]
        with cpu_threads(configs[0].train.threads):
            oracle = pd.concat([score(run, data) for run in runs], ignore_index=True)
        endpoint = Factor(f"the {inputs}", (inputs, "both"), endpoints={metric: factor.endpoints[metric]})
        frame = compare_rows(oracle, model, endpoint).frame.set_index("metric", drop=False)
        row = json.loads(frame.loc[metric].to_json(double_precision=6))
        rows.append({"inputs": inputs} | row | {"runs": describe(runs).reset_index().to_dict("records")})
    return {"oracles": rows}


if __name__ == "__main__":
    publish_study("oracle", measure)
