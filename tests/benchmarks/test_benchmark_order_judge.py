"""The language model as a judge of order: its likelihoods, what it ranks, and the record of the command."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import TINY
from tiny_language_model import WINDOWS, hub_folder, true_log_probabilities

from benchmarks import order_judge
from storylib.config import Config
from storylib.data.language_model import load_language_model
from storylib.data.windows import WindowDataset
from storylib.evaluation import Targets
from storylib.training import build_vocabulary


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request, tmp_path_factory):
    yield load_language_model(hub_folder(tmp_path_factory.mktemp("tiny"), request.param))
    load_language_model.cache_clear()


@pytest.fixture
def held_out(tiny_data, build):
    config = Config().replace(**TINY, text_weight=0.0, image_weight=0.0)
    vocabulary, model = build_vocabulary(tiny_data.features, tiny_data.splits, config), build()
    data = WindowDataset(tiny_data.features, tiny_data.splits.test, vocabulary, config)
    data.embed_bank(model.image_space, model.text_space)
    return data


def test_texts_continued_from_a_stored_context_have_the_likelihoods_of_the_whole_network(tiny, monkeypatch):
    monkeypatch.setattr(order_judge, "TOGETHER", 2)  # several groups share the context
    targets = ["The fox swims.", "No", "The owl sleeps at the end of it all.", "It is cold."]
    for context in (WINDOWS[0][0], ()):
        prompt = tiny.prompt(tiny.pieces(context), 48)
        found = order_judge.likelihoods(tiny, prompt, [[*pieces, tiny.end] for pieces in tiny.pieces(targets)])
        expected = [true_log_probabilities(tiny, context, target).sum() for target in targets]
        assert torch.allclose(found, torch.stack(expected), atol=1e-3)


def test_only_wanted_texts_are_scored_by_what_the_context_adds(tiny, held_out):
    wanted = torch.zeros(len(held_out.frames), len(held_out.keys), dtype=torch.bool)
    wanted[:, 7], wanted[1, [3, 5]] = True, True
    whole, per_piece = order_judge.ratios(tiny, held_out, wanted, 200)
    assert torch.equal(whole.isfinite(), wanted)
    context = [held_out.texts[frame] for frame in held_out.frames[1, :-1]]
    for frame in (3, 5):
        text = held_out.texts[frame]
        after, alone = (true_log_probabilities(tiny, before, text) for before in (context, ()))
        assert whole[1, frame].item() == pytest.approx(float(after.sum() - alone.sum()), abs=1e-3)
        assert per_piece[1, frame].item() == pytest.approx(float(after.sum() - alone.sum()) / len(after), abs=1e-3)


def test_a_judge_that_knows_the_answer_ranks_it_first_where_it_is_among_the_nearest(held_out, monkeypatch):
    def oracle(model, data, wanted, length):
        answer = data.text_id == data.text_id[data.frames[:, -1]][:, None]
        scores = torch.where(answer, 10.0, -10.0).masked_fill(~wanted, -torch.inf)
        return scores, scores / 10

    monkeypatch.setattr(order_judge, "ratios", oracle)
    targets = Targets(held_out)
    scores = order_judge.predict(targets, None, 48)
    parts = {"validation": (targets, scores), "test": (targets, scores)}
    found, kept = order_judge.measure(parts, "text_in_story")
    rows = {(row["windows"], row["scored by"]): row for row in found}
    recall = next(title for title in found[0] if "recall@1" in title)
    assert rows["test", "language model"][recall] == rows["test", "language model, per piece"][recall]
    assert rows["test", "language model"][recall].startswith("100.0")
    best = next(name for _, name in rows if "×" in name)
    assert rows["validation", best][recall].startswith("100.0") and kept
    assert rows["validation", best]["gain of the last"].endswith("over recency")
    assert rows["test", "chance"][recall].startswith("50")  # of two texts outside the context

    candidates, mixed = targets.candidates["text"], scores["text"]["recency + 1.0 × language model"]
    before, after = (candidates.ranks(values) for values in (scores["text"]["recency"], mixed))
    assert (before > 1).any() and (after[before <= 8] == 1).all()  # ten nearest, of which some are copies
    assert (after[before > 11] == before[before > 11]).all()


def test_the_command_on_a_small_world(tiny_data, cache, tmp_path, monkeypatch):
    name = hub_folder(tmp_path / "model", "llama")
    config = Config().replace(**TINY, text_weight=0.0, image_weight=0.0, text_decoder=name, pretraining=1)
    monkeypatch.setattr(order_judge, "configure", lambda *arguments, **options: config)
    monkeypatch.setattr(order_judge, "prepare", lambda config: tiny_data)
    monkeypatch.setattr(order_judge, "project_root", lambda: tmp_path)
    monkeypatch.setattr(order_judge, "EVERY", 2)
    order_judge.main()
    load_language_model.cache_clear()
    for part in ("in_story", "split"):
        path = tmp_path / "results" / "ideas" / f"language_model_order_{part}.json"
        record = json.loads(path.read_text())
        assert record["command"] == "python -m benchmarks.order_judge" and record["every n-th window"] == 2
        assert (record["validation windows"], record["test windows"]) == (2, 4)
        predictors = {row["scored by"] for row in record["rows"]}
        assert {"chance", "copy-last", "recency"} <= predictors and sum("×" in name for name in predictors) == 1
        assert isinstance(record["reranking kept"], bool) and len({tuple(row) for row in record["rows"]}) == 1
