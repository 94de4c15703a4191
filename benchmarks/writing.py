"""How should a pretrained language model write?  python -m benchmarks.writing

Ways to write are compared on every fourth validation window of the picture books, for the first run of the ablation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from benchmarks.records import write_record
from storylib.baselines import Prediction
from storylib.config import configure, project_root, seeds
from storylib.data.windows import WindowDataset
from storylib.decoders import MODES
from storylib.evaluation import Targets
from storylib.experiments.runs import prepare, train
from storylib.experiments.storyteller import Storyteller
from storylib.experiments.studies import ablation_factor
from storylib.metrics.registry import METRICS, MODEL
from storylib.metrics.summary import summarise

EVERY = 4
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"mode": "greedy"},
    "nucleus": {"mode": "nucleus", "seed": 0},
    "two beams": {"mode": "beam", "num_beams": 2},
    "four beams": {"mode": "beam"},
    "four beams, shorter texts": {"mode": "beam", "length_penalty": 1.0},
}
SHOWN = ("bleu", "meteor", "chrf", "distinct_2", "length_ratio")


@torch.inference_mode()
def write(storyteller: Storyteller, held_out: WindowDataset, options: dict[str, Any]) -> list[str]:
    """The next text of each window."""
    model, texts = storyteller.model.eval(), []
    for rows in torch.arange(len(held_out.frames)).split(64):
        batch = held_out.__getitems__(rows.tolist())
        story = model.read_windows(batch)["story"]
        ids = model.text_decoder.generate(story, batch["context_tokens"], **options)
        texts += storyteller.vocabulary.decode(ids)
    return texts


def measure(storyteller: Storyteller, held_out: WindowDataset) -> Iterator[dict[str, Any]]:
    """A row for copy-last and for each way: scores with intervals, and processor seconds per window."""
    targets = Targets(held_out)
    last = [held_out.texts[frame] for frame in targets.context[:, -1]]
    copies = targets.score(Prediction(words=last)).assign(predictor="copy-last")
    for way, options in {"copy-last": None, **WAYS}.items():
        began = time.process_time()
        texts = last if options is None else write(storyteller, held_out, options)
        seconds = (time.process_time() - began) / len(texts)
        scores = summarise(pd.concat([copies, targets.score(Prediction(words=texts)).assign(predictor=MODEL)]))
        shown = {METRICS[name]: scores[name] for name in SHOWN}
        row = {metric.title: metric.interval_text(s["value"], *s["interval"]) for metric, s in shown.items()}
        yield {"way": way, **row, "processor seconds": round(seconds, 2)}
        print(f"{way}: {row}", flush=True)


def main() -> None:
    config = configure("full", ablation_factor().arms[0], source="picture_books", seed=seeds("full")[0])
    data = prepare(config)
    run = train(config, data)
    storyteller = Storyteller.of_run(run)
    held_out = WindowDataset(data.features, data.splits.validation, storyteller.vocabulary, run.config)
    held_out.frames = held_out.frames[::EVERY]
    record = {"command": "python -m benchmarks.writing", "title": "Ways to write", "run": run.id, "modes": MODES}
    record |= {"validation windows": len(held_out.frames), "rows": [*measure(storyteller, held_out)]}
    write_record(project_root() / "results" / "ideas" / "writing.json", record)


if __name__ == "__main__":
    main()
