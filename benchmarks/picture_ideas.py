"""Two ideas for the drawn picture, as records of results/ideas.

    python -m benchmarks.picture_ideas RUN TOKENS

RUN: the folder of a full run of Storyworld, whose image decoder is made more or less decisive. TOKENS: that of
a run of the quick profile at commit aa3a94b, whose image decoder predicted tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.records import write_json
from storylib import decoders
from storylib.data.scoring import ScoringEncoders
from storylib.data.windows import WindowDataset, as_pixels
from storylib.experiments.provenance import publishable
from storylib.experiments.records import Run
from storylib.experiments.runs import prepare
from storylib.experiments.storyteller import Storyteller
from storylib.metrics.frechet import frechet_distance, moments, principal_directions
from storylib.metrics.images import picture_columns
from storylib.sources.storyworld.probe import read_pictures

FOLDER = Path(__file__).parents[1] / "results" / "ideas"
TITLES = {
    "image_l1": "mean absolute error",
    "picture_distance": "perceptual distance",
    "sharpness": "sharpness, %",
    "frechet": "Fréchet distance",
    "best_l1": "best of four, mean absolute error",
}


@torch.inference_mode()
def decisive(run: Run) -> list[dict[str, str]]:
    """One row per decisiveness of the image decoder, and one of copying the last picture."""
    config, data = run.config, prepare(run.config)
    storyteller = Storyteller.of_run(run)
    held_out = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, config)
    target = held_out.frames[:, -1]
    true, encoders = as_pixels(held_out.pictures[target]), ScoringEncoders(config)
    basis = principal_directions(encoders.pictures(true))
    attributes = {(s.id, f.number): f.attributes or {} for s in data.stories for f in s.frames}
    scenes = [attributes[held_out.keys[i]] for i in target.tolist()]

    def row(name: str, pictures: torch.Tensor) -> dict[str, str]:
        columns = picture_columns(pictures, true)
        sums = [moments(encoders.pictures(part) @ basis).sum(0) for part in (pictures, true)]
        seen = read_pictures((pictures * 255).round().byte().permute(0, 2, 3, 1).numpy())
        right = {n: np.mean([s[n] == t[n] for s, t in zip(seen, scenes, strict=True)]) for n in ("who", "where")}
        return {
            "decisiveness": name,
            TITLES["image_l1"]: f"{columns['image_l1'].mean():.4f}",
            TITLES["picture_distance"]: f"{columns['picture_distance'].mean():.3f}",
            TITLES["sharpness"]: f"{100 * columns['sharpness'].mean() / columns['true_sharpness'].mean():.0f}",
            TITLES["frechet"]: f"{frechet_distance(*sums):.3f}",
        } | {f"{name} right, %": f"{100 * value:.0f}" for name, value in right.items()}

    rows = [row("the true picture", true), row("copy-last", as_pixels(held_out.pictures[held_out.frames[:, -2]]))]
    for power in (1.0, 2.0, 4.0, 16.0):
        decoders.DECISIVENESS = power
        drawn = []
        for batch in held_out.batches("cpu"):
            state = storyteller.model.eval().read(batch["image"][:, :-1], batch["text"][:, :-1])["state"]
            drawn.append(storyteller.model.image_decoder(state, batch["context_pictures"]).clamp(0, 1))
        rows.append(row(f"{power:g}", torch.cat(drawn)))
    return rows


def tokens(folder: Path) -> list[dict[str, str]]:
    """The token decoder beside the baselines of the same windows."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]

    def row(name: str, values: dict[str, float]) -> dict[str, str]:
        shown = {title: f"{values[key]:.3f}" for key, title in TITLES.items() if key in values}
        return {"picture": name} | {title: shown.get(title, "") for title in TITLES.values()}

    rows = [row("token decoder", {key: metrics[key]["value"] for key in TITLES})]
    for name in ("tokenizer", "copy-last", "nearest", "context"):
        rows.append(row(name, {k: metrics[k]["baselines"][name] for k in TITLES if name in metrics[k]["baselines"]}))
    return rows


def save(name: str, title: str, hypothesis: str, rows: list[dict[str, str]], commit: str) -> None:
    script = {"path": "benchmarks/picture_ideas.py", "commit": commit}
    record: dict[str, Any] = {"script": script, "title": title, "hypothesis": hypothesis, "rows": rows}
    write_json(FOLDER / f"{name}.json", record | publishable())


def main() -> None:
    run, drawn_tokens = (Path(argument) for argument in sys.argv[1:])
    commit = str(publishable()["commit"])
    idea = "A decoder that decides between the context's pictures draws sharper than one that blends them."
    save("decisiveness", "A decisive image decoder", idea, decisive(Run(run)), commit)
    idea = "A masked transformer over the codes of a small autoencoder draws what a mixture of pixels cannot."
    save("picture_tokens", "Pictures as tokens", idea, tokens(drawn_tokens), commit)


if __name__ == "__main__":
    main()
