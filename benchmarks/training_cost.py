"""What a training window costs: system B's loop as it was written against ours, on the same windows in one process.

    python -m benchmarks.training_cost [--rounds 5] [--device cpu] [--record FILE]

Both loops take turns, a few batches each, so that whatever else the machine does falls on both. System B runs its
frozen ResNet-50 and DistilBERT in the loop (random weights: they cost the same), in batches of two windows, at 224
pixels, with a 30,522-word output layer. Ours runs on stored features with every loss on. Encoding the stories once is
timed apart and spread over the epochs of the quick profile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import DistilBertConfig, DistilBertModel

from storylib.config import TrainConfig, configure, project_root
from storylib.encoders import load_text_encoder
from storylib.losses import compute_losses
from storylib.pictures import open_picture, write_atomically
from storylib.runs import prepare, provenance
from storylib.stories import Window, windows
from storylib.training import WindowDataset, adamw, batches, build_model, build_vocabulary

WORDS, PIECES = 30_522, 32  # of BERT's vocabulary; word pieces that a text is cut to


class SystemB(nn.Module):
    """Its trainable parts and its frozen encoders, as its notebook has them."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.read = resnet50(), DistilBertModel(DistilBertConfig())
        self.see.fc = nn.Identity()
        self.requires_grad_(False)
        self.image, self.text = nn.Linear(2048, 256), nn.Linear(768, 256)
        self.fuse = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
        self.story = nn.LSTM(512, 512, batch_first=True)
        self.seed = nn.Linear(512, 256 * 7 * 7)
        sizes = itertools.pairwise([256, 128, 64, 32, 16, 3])
        layers = [[nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()] for a, b in sizes]  # 7 -> 14 -> ... -> 224 pixels
        self.paint = nn.Sequential(*itertools.chain(*layers[:-1]), layers[-1][0], nn.Sigmoid())
        self.words, self.write = nn.Embedding(WORDS, 256), nn.GRU(256, 512, batch_first=True)
        self.vocabulary = nn.Linear(512, WORDS)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """The loss of (B, 5, 3, 224, 224) pixels and (B, 5, T) tokens: four frames given, the fifth asked for."""
        batch, frames = pixels.shape[0], 4
        with torch.no_grad():
            self.see.eval(), self.read.eval()
            seen = self.see(pixels[:, :frames].flatten(0, 1))
            read = self.read(tokens[:, :frames].flatten(0, 1)).last_hidden_state[:, 0]
        image, text = self.image(seen), self.text(read)
        logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / 0.07
        pair = torch.arange(len(logits), device=logits.device)
        contrastive = (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2
        _, (state, _) = self.story(self.fuse(torch.cat([image, text], dim=-1)).view(batch, frames, -1))
        drawn = self.paint(self.seed(state[-1]).view(batch, 256, 7, 7))
        written, _ = self.write(self.words(tokens[:, -1]), state)
        text_loss = F.cross_entropy(self.vocabulary(written).flatten(0, 1), tokens[:, -1].flatten())
        return F.mse_loss(drawn, pixels[:, -1]) + text_loss + 0.5 * contrastive


def system_b(asked: list[Window], device: str = "cpu", size: int = 2) -> Iterator[int]:
    """Train on batch after batch, pictures and words read anew as its loader does; yields the windows of each step."""
    torch.manual_seed(0)
    model = SystemB().to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokenizer = load_text_encoder("minilm").tokenizer  # BERT's word pieces
    to_pixels = v2.Compose([
        v2.Resize((224, 224)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    options = {"padding": "max_length", "truncation": True, "max_length": PIECES, "return_tensors": "pt"}
    endless = itertools.cycle(asked)
    while True:
        frames = [[*w.context, w.target] for w in itertools.islice(endless, size)]
        pixels = torch.stack([torch.stack([to_pixels(open_picture(f.image)) for f in fs]) for fs in frames])
        tokens = torch.stack([tokenizer([f.text for f in fs], **options)["input_ids"] for fs in frames])
        loss = model(pixels.to(device), tokens.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield size


def ours(train: WindowDataset, model: nn.Module, config: TrainConfig, device: str = "cpu") -> Iterator[int]:
    """The steps of storylib.training.fit, all losses on."""
    optimizer = adamw(model, config)
    model.train()
    while True:
        for batch in batches(train, config.batch_size):
            batch = {name: value.to(device) for name, value in batch.items()}
            loss = sum(compute_losses(model(batch), batch, config).values())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield len(batch["target"])


def cost(loop: Iterator[int], steps: int, device: str = "cpu") -> float:
    """Milliseconds a window over some steps."""
    started = time.perf_counter()
    seen = sum(next(loop) for _ in range(steps))
    if device != "cpu":
        torch.get_device_module(device).synchronize()  # it may still be at work on what it was given
    return 1000 * (time.perf_counter() - started) / seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", type=Path, help="by default results/benchmarks/training_cost.json, or -cuda.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ending = "" if options.device == "cpu" else f"-{options.device}"
    path = options.record or project_root() / "results" / "benchmarks" / f"training_cost{ending}.json"
    config = configure("quick", source=options.source)
    data = prepare(config)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    train = WindowDataset(data.features, data.splits.train, vocabulary, config)
    model = build_model(config, data.features, data.splits, vocabulary)
    train.embed_bank(model)
    loops = {
        "system B": (system_b(list(windows(data.splits.train, config.data.context)), options.device), 2),
        "ours": (ours(train, model.to(options.device), config.train, options.device), 10),
    }
    for loop, _ in loops.values():
        cost(loop, 1, options.device)  # the first step allocates
    measured: dict[str, list[float]] = {name: [] for name in loops}
    for _ in tqdm(range(options.rounds), desc="rounds", unit="round"):
        for name, (loop, steps) in loops.items():
            measured[name].append(cost(loop, steps, options.device))
    ratios = [b / a for b, a in zip(measured["system B"], measured["ours"], strict=True)]
    record = {
        "source": options.source,
        "batch": {"system B": 2, "ours": config.train.batch_size},
        "vocabulary": {"system B": WORDS, "ours": len(vocabulary)},
        "threads": options.threads,
        "milliseconds_a_window": {name: [round(v, 2) for v in values] for name, values in measured.items()},
        "median": {name: round(statistics.median(values), 2) for name, values in measured.items()},
        "times_cheaper": round(statistics.median(ratios), 1),
        "times_cheaper_range": [round(min(ratios), 1), round(max(ratios), 1)],
        **provenance(options.device),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=2) + "\n")
    for name, value in record["median"].items():
        print(f"{name:10} {value:8.1f} ms a window")
    low, high = record["times_cheaper_range"]
    print(f"ours is {record['times_cheaper']} times cheaper ({low} to {high} over {options.rounds} rounds)")


if __name__ == "__main__":
    main()
