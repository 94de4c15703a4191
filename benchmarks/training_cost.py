"""What does a training window cost: system B's loop as published against ours, on the same windows in one process?

    python -m benchmarks.training_cost [--rounds 5] [--device cpu] [--record FILE]

The loops take turns, a few batches each, so that a busy machine slows both. System B runs its frozen ResNet-50 and
DistilBERT inside the loop (random weights cost the same), in batches of two windows, at 224 pixels and with an output
layer of 30,522 words. Ours runs on stored features with every loss on.
"""

from __future__ import annotations

import argparse
import itertools
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

from benchmarks.measured_alone import build, steps
from benchmarks.records import record_path, write_record
from storylib.config import configure
from storylib.data.encoders import load_text_encoder
from storylib.data.pictures import open_picture
from storylib.data.types import Window, windows
from storylib.experiments.runs import prepare

WORDS, TEXT_LENGTH, BATCH = 30_522, 32, 2  # BERT's vocabulary; word pieces per text; windows per batch


class SystemB(nn.Module):
    """Its trainable parts and its frozen encoders, as in its notebook."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = resnet50(), DistilBertModel(DistilBertConfig())
        self.image_encoder.fc = nn.Identity()
        self.requires_grad_(False)
        self.image, self.text = nn.Linear(2048, 256), nn.Linear(768, 256)
        self.fusion = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
        self.temporal = nn.LSTM(512, 512, batch_first=True)
        self.seed = nn.Linear(512, 256 * 7 * 7)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([256, 128, 64, 32, 16, 3]):  # 7 -> 14 -> ... -> 224 pixels
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
        self.paint = nn.Sequential(*layers[:-1], nn.Sigmoid())
        self.embedding, self.text_decoder = nn.Embedding(WORDS, 256), nn.GRU(256, 512, batch_first=True)
        self.vocabulary = nn.Linear(512, WORDS)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """The loss of (B, 5, 3, 224, 224) pixels and (B, 5, T) tokens: four frames of context and the target."""
        batch, frames = pixels.shape[0], 4
        with torch.no_grad():
            self.image_encoder.eval(), self.text_encoder.eval()
            image_features = self.image_encoder(pixels[:, :frames].flatten(0, 1))
            text_features = self.text_encoder(tokens[:, :frames].flatten(0, 1)).last_hidden_state[:, 0]
        image, text = self.image(image_features), self.text(text_features)
        logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / 0.07
        pair = torch.arange(len(logits), device=logits.device)
        contrastive = (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2
        fused = self.fusion(torch.cat([image, text], dim=-1)).view(batch, frames, -1)
        _, (state, _) = self.temporal(fused)
        picture = self.paint(self.seed(state[-1]).view(batch, 256, 7, 7))
        decoded, _ = self.text_decoder(self.embedding(tokens[:, -1]), state)
        text_loss = F.cross_entropy(self.vocabulary(decoded).flatten(0, 1), tokens[:, -1].flatten())
        return F.mse_loss(picture, pixels[:, -1]) + text_loss + 0.5 * contrastive


def system_b(train: list[Window], device: str) -> Iterator[int]:
    """Endless training steps; pictures and texts are read anew for each, as its loader does. Yields their windows."""
    torch.manual_seed(0)
    model = SystemB().to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokenizer = load_text_encoder("minilm").tokenizer  # BERT's word pieces
    to_pixels = v2.Compose([
        v2.Resize((224, 224)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    options = {"padding": "max_length", "truncation": True, "max_length": TEXT_LENGTH, "return_tensors": "pt"}
    endless = itertools.cycle(train)
    while True:
        pixels, tokens = [], []
        for window in itertools.islice(endless, BATCH):
            frames = [*window.context, window.target]
            pixels.append(torch.stack([to_pixels(open_picture(frame.image)) for frame in frames]))
            tokens.append(tokenizer([frame.text for frame in frames], **options)["input_ids"])
        loss = model(torch.stack(pixels).to(device), torch.stack(tokens).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield BATCH


def cost(loop: Iterator[int], count: int, device: str) -> float:
    """Milliseconds per window over some steps."""
    started = time.perf_counter()
    trained = sum(itertools.islice(loop, count))
    if device != "cpu":
        torch.get_device_module(device).synchronize()  # it may still be working
    return 1000 * (time.perf_counter() - started) / trained


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_cost")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", type=Path, help="by default results/benchmarks/training_cost.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = configure("quick", source=options.source, device=options.device, pretraining=0)
    data = prepare(config)
    model, parts = build(config, data)
    times: dict[str, list[float]] = {"system B": [], "ours": []}
    loops = {
        "system B": (system_b(list(windows(data.splits.train, config.data.context)), options.device), 2),
        "ours": (steps(model, parts, config), 10),
    }
    for loop, _ in loops.values():
        cost(loop, 1, options.device)  # the first step allocates
    for _ in tqdm(range(options.rounds), desc="rounds", unit="round"):
        for name, (loop, count) in loops.items():
            times[name].append(cost(loop, count, options.device))
    ratios = [theirs / ours for theirs, ours in zip(times["system B"], times["ours"], strict=True)]
    record = {
        "source": options.source,
        "batch": {"system B": BATCH, "ours": config.train.batch_size},
        "vocabulary": {"system B": WORDS, "ours": parts["train"].vocabulary_size},
        "threads": options.threads,
        "milliseconds_per_window": {name: [round(v, 2) for v in values] for name, values in times.items()},
        "median": {name: round(statistics.median(values), 2) for name, values in times.items()},
        "times_cheaper": round(statistics.median(ratios), 1),
        "times_cheaper_range": [round(min(ratios), 1), round(max(ratios), 1)],
    }
    path = options.record or record_path("training_cost", options.device)
    write_record(path, record, options.device)
    print({name: record[name] for name in ("median", "times_cheaper", "times_cheaper_range")}, path)


if __name__ == "__main__":
    main()
