"""Does a language model know which text of a story comes next?  python -m benchmarks.order_judge

A text's score is log p(text | context) - log p(text) of the language model as it is, whole or per piece.
Reranking adds it, weighted, to cosines with the recency-weighted mean of the context: of the story's texts or, in the
whole split, of the ten nearest. Score and weight are chosen on validation, and kept only if they help there.
"""

from __future__ import annotations

import copy
import time

import pandas as pd
import torch
from torch import Tensor

from benchmarks.records import write_record
from storylib.baselines import Prediction
from storylib.config import configure, project_root
from storylib.data.language_model import TOGETHER, LanguageModel, load_language_model
from storylib.data.windows import WindowDataset
from storylib.evaluation import Targets
from storylib.experiments.runs import prepare
from storylib.metrics.registry import METRICS, MODEL
from storylib.metrics.summary import summarise
from storylib.training import build_model, build_vocabulary

EVERY, NEAREST, WEIGHTS = 4, 10, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # every fourth window: minutes on one core
JUDGES = ("language model", "language model, per piece")
BASELINES = ("copy-last", "recency")


@torch.inference_mode()
def likelihoods(model: LanguageModel, prompt: list[int], texts: list[list[int]]) -> Tensor:
    """(N,) log-probability of the pieces of each text after a prompt, which is read once."""
    sums, read = torch.zeros(len(texts)), model.network.base_model(torch.tensor([prompt]), use_cache=True)
    for rows in torch.tensor(sorted(range(len(texts)), key=lambda i: len(texts[i]))).split(TOGETHER):
        pieces = torch.nn.utils.rnn.pad_sequence([torch.tensor(texts[i]) for i in rows], True, -1)
        cache, real = copy.deepcopy(read.past_key_values), pieces >= 0
        cache.batch_repeat_interleave(len(rows))
        states = model.network.base_model(pieces.clamp(min=0), past_key_values=cache).last_hidden_state[:, :-1]
        before = torch.cat([read.last_hidden_state[:, -1:].expand(len(rows), -1, -1), states], dim=1)[real]
        own = model.output(before).log_softmax(-1).gather(1, pieces[real][:, None])
        sums[rows] = torch.zeros(pieces.shape).masked_scatter(real, own).sum(1)
    return sums


def ratios(model: LanguageModel, data: WindowDataset, wanted: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(W, F) log p(text | context) - log p(text) of the wanted frames, whole and per piece; -inf for others."""
    pieces, scores = model.pieces(data.texts), torch.full(wanted.shape, -torch.inf)
    texts = [[*text, model.end][:length] for text in pieces]
    alone = likelihoods(model, [model.start], texts)
    for row, mask, context in zip(scores, wanted, data.frames[:, :-1].tolist(), strict=True):
        prompt = model.prompt([pieces[frame] for frame in context], length)
        row[mask] = likelihoods(model, prompt, [texts[i] for i in mask.nonzero()]) - alone[mask]
    return scores, scores / torch.tensor([len(text) for text in texts])


def predict(targets: Targets, model: LanguageModel, length: int) -> dict[str, dict[str, Tensor]]:
    """(W, F) scores for each task by baselines, by the language model alone (in-story) and by rerankings."""
    data, bank, context = targets.held_out, targets.held_out.text_bank, targets.context
    recency = (bank[context] * torch.arange(1.0, context.shape[1] + 1)[:, None]).sum(1)
    means = zip(BASELINES, (bank[context[:, -1]], recency), strict=True)
    story = {name: torch.nn.functional.normalize(mean, dim=-1) @ bank.T for name, mean in means}
    cosine, split = story["recency"].double(), dict(story)
    near = (among := cosine.scatter(1, context, -torch.inf)) >= among.topk(NEAREST).values[:, -1:]
    own = (data.story_id == data.story_id[targets.target][:, None]).scatter(1, context, False)
    for judge, scores in zip(JUDGES, ratios(model, data, own | near, length), strict=True):
        mixed = {f"recency + {weight} × {judge}": cosine + weight * scores for weight in WEIGHTS}
        story |= {judge: scores} | mixed
        split |= {mixture: torch.where(near, values, cosine - 1e6) for mixture, values in mixed.items()}
    return {"text_in_story": story, "text": split}


def measure(parts: dict, task: str) -> tuple[list[dict], bool]:
    """Scores of each predictor on each part, and whether the best reranking beats recency on validation.

    Of all rerankings only the one that is best on validation is reported.
    """
    tables, rows, kept, column = {}, [], False, f"{task}_rank"
    recall, mrr = METRICS[f"{task}_recall@1"], METRICS[f"{task}_mrr"]
    for part, (targets, scores) in parts.items():
        chance = targets.score(Prediction(random=True))[["story", column, f"{task}_candidates"]]
        ranks = {name: targets.candidates[task].ranks(values).numpy() for name, values in scores[task].items()}
        tables[part] = {"chance": chance} | {name: chance.assign(**{column: rank}) for name, rank in ranks.items()}
    best = max([n for n in scores[task] if "×" in n], key=lambda n: mrr.value(tables["validation"][n]) or 0.0)
    for part, name in [(p, n) for p in parts for n in tables[p] if n == best or "×" not in n]:
        others = ["recency"] if name == best else [other for other in ("chance", *BASELINES) if other != name]
        compared = [tables[part][other].assign(predictor=other) for other in others]
        scored = summarise(pd.concat([*compared, tables[part][name].assign(predictor=MODEL)]))
        gain, (low, high) = scored[mrr.name]["gain"], scored[mrr.name]["gain_interval"]
        kept |= part == "validation" and name == best and low > 0
        values = {m.title: m.interval_text(scored[m.name]["value"], *scored[m.name]["interval"]) for m in (recall, mrr)}
        difference = f"{mrr.interval_text(gain, low, high, '+')} over {scored[mrr.name]['best_baseline']}"
        rows.append({"windows": part, "scored by": name} | values | {"gain of the last": difference})
    return rows, kept


def main() -> None:
    config = configure("full", source="picture_books", text_weight=0.0, image_weight=0.0)
    data, name, length = prepare(config), config.model.text_decoder, config.model.text_length
    vocabulary, model = build_vocabulary(data.features, data.splits, config), load_language_model(name)
    spaces = build_model(config, data.features, data.splits, vocabulary)
    record = {"command": "python -m benchmarks.order_judge", "title": "A language model as a judge of order"}
    parts = {}
    for part in ("validation", "test"):
        held_out = WindowDataset(data.features, getattr(data.splits, part), vocabulary, config)
        held_out.frames = held_out.frames[::EVERY]
        held_out.embed_bank(spaces.image_space, spaces.text_space)
        began, parts[part] = time.process_time(), (targets := Targets(held_out), predict(targets, model, length))
        seconds = (time.process_time() - began) / len(targets.target)
        print(part, len(targets.target), "windows", round(seconds, 2), "processor seconds each", flush=True)
        record |= {f"{part} windows": len(targets.target), f"{part} processor seconds per window": round(seconds, 2)}
    record |= {"every n-th window": EVERY}
    for task, name in (("text_in_story", "in_story"), ("text", "split")):
        rows, kept = measure(parts, task)
        path = project_root() / "results" / "ideas" / f"language_model_order_{name}.json"
        write_record(path, record | {"reranking kept": bool(kept), "rows": rows})


if __name__ == "__main__":
    main()
