"""Evaluation: known predictors get the scores they must get, by brute force where it can be done."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib.baselines import Prediction, copy
from storylib.data.scoring import ScoringEncoders
from storylib.data.windows import WindowDataset, as_pixels
from storylib.evaluation import EvaluationError, Targets, evaluate, predict, shared
from storylib.metrics.frechet import frechet_distance, moments
from storylib.metrics.registry import METRICS, MODEL, ORACLE
from storylib.metrics.text import words


@pytest.fixture(scope="module")
def model(build):
    """Not trained, but moved away from its start."""
    model = build().eval()
    with torch.no_grad():
        for part in (model.next_image.correction, model.next_text.correction):
            part.weight.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def encoders(tiny_data):
    return ScoringEncoders(tiny_config())


@pytest.fixture(scope="module")
def scored(model, tiny_sets, encoders):
    return evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], tiny_sets["test"], encoders)


@pytest.fixture(scope="module")
def held_out(model, tiny_sets):
    return tiny_sets["test"]


@pytest.fixture(autouse=True)
def bank(model, held_out):
    """Other tests may have put the frames into another model's spaces."""
    held_out.embed_bank(model.image_space, model.text_space)


@pytest.fixture(scope="module")
def targets(held_out, model, encoders):
    held_out.embed_bank(model.image_space, model.text_space)
    encoders.remember(held_out.texts, held_out.text[:])
    return Targets(held_out, model, encoders)


def perfect(held_out):
    target = held_out.frames[:, -1]
    tokens = (held_out.tokens[target] > 0).sum(1)
    return Prediction(
        image=held_out.image_bank[target],
        text=held_out.text_bank[target],
        words=[held_out.texts[i] for i in target],
        picture=as_pixels(held_out.pictures[target]),
        samples=torch.stack([as_pixels(held_out.pictures[target])] * 2, 1),
        nll=torch.zeros(len(held_out)),
        nll_shuffled=torch.ones(len(held_out)),
        top1=tokens,
        top5=tokens,
    )


def random(held_out, seed):
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(len(held_out), dim, generator=generator) for dim in (24, 20))
    return Prediction(image=image, text=text)


def values(table):
    return {name: metric.value(table) for name, metric in METRICS.items()}


def rows_of(table, predictor):
    """The rows of one predictor that belong to a window."""
    return table[table["predictor"] == predictor].dropna(subset=["tokens"]).reset_index(drop=True)


# Known predictors


def test_a_perfect_predictor_gets_the_best_value_of_every_metric(held_out, targets):
    metrics = values(targets.score(perfect(held_out)))
    best = dict.fromkeys(("image_recall@1", "text_recall@1", "bleu", "rouge_l", "chrf", "top1", "top5"), 100)
    best |= dict.fromkeys(("distinct_1", "distinct_2", "length_ratio", "sharpness"), 100)
    best |= dict.fromkeys(("text_similarity", "image_cosine", "text_cosine", "image_ssim", "perplexity"), 1)
    best |= dict.fromkeys(("frechet", "best_l1", "sample_spread", "image_l1", "cross_entropy"), 0)
    for name in ("image", "text", "frame"):
        best |= {f"{name}_recall@10": 100, f"{name}_in_story_recall@1": 100, f"{name}_mrr": 1}
    assert {name: metrics[name] for name in best} == pytest.approx(best, abs=1e-5)
    assert metrics["meteor"] > 99
    assert metrics["context_gap"] == pytest.approx(8 / targets.tokens.sum().item())


def test_random_predictions_are_about_chance(held_out, targets):
    chance = values(targets.score(Prediction(random=True)))
    metrics = values(pd.concat([targets.score(random(held_out, seed)) for seed in range(150)]))
    for name in ("image", "text", "frame"):
        assert metrics[f"{name}_mrr"] == pytest.approx(chance[f"{name}_mrr"], abs=0.06)
        assert metrics[f"{name}_recall@10"] == pytest.approx(chance[f"{name}_recall@10"], abs=8)
        in_story = f"{name}_in_story_recall@1"
        assert metrics[in_story] == pytest.approx(chance[in_story], abs=12)


def test_an_untrained_model_scores_like_its_baseline(build, tiny_sets):
    model = build()
    table, _ = evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], tiny_sets["test"])
    rows, recency, mean = (rows_of(table, predictor) for predictor in (MODEL, "recency", "mean"))
    for column in ("image_rank", "text_rank", "frame_rank", "image_in_story_rank"):
        assert rows[column].tolist() == recency[column].tolist()
    assert rows["image_l1"].to_numpy() == pytest.approx(mean["image_l1"].to_numpy(), abs=1e-5)


def test_the_oracle_is_at_least_as_good_as_each_copy(scored, held_out, targets):
    best = values(rows_of(scored[0], ORACLE))
    each = [values(targets.score(copy(held_out, position))) for position in range(4)]
    names = [name for name in METRICS if best[name] is not None and name != "bleu"]
    assert {"image_recall@1", "text_mrr", "image_l1", "image_ssim", "rouge_l", "cider_d", "chrf"} <= set(names)
    for name in names:
        sign = 1 if METRICS[name].higher_is_better else -1
        assert all(sign * best[name] >= sign * one[name] - 1e-9 for one in each), name
    assert any(all(best[name] != one[name] for one in each) for name in names)  # it does choose


# Ranks


def by_brute_force(held_out, prediction, kind, in_story):
    """Rank and number of candidates of each window's target, by comparing frames one by one."""
    ranks, counts = [], []
    frames = [(story, frame) for story in {w.story.id: w.story for w in held_out.windows}.values()
              for frame in story.frames]  # fmt: skip
    for row, window in enumerate(held_out.windows):
        own, rivals = None, []
        for column, (story, frame) in enumerate(frames):
            image = F.cosine_similarity(prediction.image[row], held_out.image_bank[column], dim=0).item()
            text = F.cosine_similarity(prediction.text[row], held_out.text_bank[column], dim=0).item()
            score = {"image": image, "text": text, "frame": image + text}[kind]
            if story is window.story and frame.number == window.target.number:
                own = score
                continue
            same_image = frame.image.tobytes() == window.target.image.tobytes()
            same_text = frame.text == window.target.text
            is_copy = {"image": same_image, "text": same_text, "frame": same_image and same_text}[kind]
            in_context = story is window.story and frame.number in [f.number for f in window.context]
            if not is_copy and not in_context and (not in_story or story is window.story):
                rivals.append(score)
        counts.append(1 + len(rivals) if rivals else np.nan)
        ranks.append(1 + sum(score > own for score in rivals) if rivals else np.nan)
    return ranks, counts


@pytest.mark.parametrize("kind", ["image", "text", "frame"])
@pytest.mark.parametrize("in_story", [False, True])
def test_ranks_and_candidates_equal_brute_force(held_out, targets, kind, in_story):
    prediction = random(held_out, 7)
    table = targets.score(prediction)
    ranks, counts = by_brute_force(held_out, prediction, kind, in_story)
    name = f"{kind}_in_story" if in_story else kind
    assert table[f"{name}_candidates"].tolist() == counts
    assert table[f"{name}_rank"].tolist() == ranks


def test_context_frames_and_copies_are_no_candidates(targets):
    """24 frames less 4 of the context; the last windows' pictures have one copy in another story."""
    counts = targets.score(Prediction(random=True))
    last = counts["frame"] == 6
    assert counts.loc[last, "image_candidates"].eq(19).all() and counts.loc[~last, "image_candidates"].eq(20).all()
    assert counts["text_candidates"].eq(20).all() and counts["frame_candidates"].eq(20).all()
    assert counts["text_in_story_candidates"].eq(2).all()


def test_the_retrieved_frame_is_the_best_allowed_one(held_out, targets):
    prediction = random(held_out, 3)
    table = targets.score(prediction)
    scores = F.normalize(prediction.image, dim=-1) @ held_out.image_bank.T
    scores = scores + F.normalize(prediction.text, dim=-1) @ held_out.text_bank.T
    for row, window in enumerate(held_out.windows):
        context = [(window.story.id, frame.number) for frame in window.context]
        allowed = [column for column, key in enumerate(held_out.keys) if key not in context]
        best = held_out.keys[max(allowed, key=scores[row].tolist().__getitem__)]
        assert (table["retrieved_story"][row], table["retrieved_frame"][row]) == best
    assert targets.score(perfect(held_out))["retrieved_frame"].tolist() == [w.target.number for w in held_out.windows]


def test_a_story_without_other_frames_poses_no_in_story_question(tiny_data, tiny_sets, model):
    """Stories of five frames have one window, whose context and target are all of it."""
    short = [dataclasses.replace(story, frames=story.frames[:5]) for story in tiny_data.splits.test]
    dataset = WindowDataset(tiny_data.features, short, tiny_sets["vocabulary"], tiny_config())
    dataset.embed_bank(model.image_space, model.text_space)
    table = Targets(dataset).score(random(dataset, 0))
    assert table["image_in_story_rank"].isna().all() and table["image_in_story_candidates"].isna().all()
    assert table["image_rank"].notna().all()
    assert values(table)["image_in_story_recall@1"] is None
    assert values(Targets(dataset).score(Prediction(random=True)))["image_in_story_recall@1"] is None


def test_cross_modal_ranks_equal_a_loop(model, held_out, targets):
    table = targets.score(Prediction(shared=shared(model, held_out)))
    table = table.set_index(["story", "frame"]).loc[held_out.keys].reset_index()
    with torch.no_grad():
        image, text = model.shared(held_out.image[:], held_out.text[:])
    for name, query, answer, ids in (
        ("image_to_text", image, text, held_out.text_id),
        ("text_to_image", text, image, held_out.image_id),
    ):
        for row in range(24):
            scores = [(query[row] @ answer[i]).item() for i in range(24) if i == row or ids[i] != ids[row]]
            own = (query[row] @ answer[row]).item()
            assert table[f"{name}_rank"][row] == 1 + sum(score > own + 1e-6 for score in scores)
            assert table[f"{name}_candidates"][row] == len(scores)
    assert sorted(table["text_to_image_candidates"].unique()) == [23, 24]


# The table of an evaluation


def test_only_test_stories_are_scored(scored, tiny_data):
    table, drawn = scored
    assert set(table["story"]) == {story.id for story in tiny_data.splits.test}
    assert len(drawn) == 8 and drawn.dtype == np.uint8 and drawn.shape[1:] == (1, 16, 16, 3)
    rows = table[table["predictor"] == MODEL]
    assert len(rows) == 24 and rows["image_rank"].notna().sum() == 8  # other frames count in cross-modal retrieval only
    assert sorted(rows["picture"].dropna()) == list(range(8))


def test_every_predictor_is_scored_on_the_same_windows(scored):
    table = scored[0].dropna(subset=["tokens"])
    windows = {name: sorted(zip(t["story"], t["frame"], strict=True)) for name, t in table.groupby("predictor")}
    assert len(windows) == 13
    assert all(windows[name] == windows[MODEL] for name in windows)


def test_the_likelihood_of_the_true_text_is_that_of_the_decoder(scored, model, held_out):
    rows = rows_of(scored[0], MODEL)
    for row in (0, 5):
        batch, other = (held_out.__getitems__([i]) for i in (row, (row + 4) % 8))  # half-way round the list
        other_context = {name: other[name] for name in ("image", "text", "context_tokens", "context_pictures")}
        with torch.no_grad():
            own, shuffled = (model(b)["token_log_probabilities"] for b in (batch, batch | other_context))
        real = batch["tokens"] != -100
        assert rows["tokens"][row] == real.sum().item()
        assert rows["nll"][row] == pytest.approx(-own[real].sum().item(), rel=1e-4)
        assert rows["nll_shuffled"][row] == pytest.approx(-shuffled[real].sum().item(), rel=1e-4)


def test_true_tokens_ranked_first_and_among_five_are_counted(scored, model, held_out):
    rows, batch = rows_of(scored[0], MODEL), held_out.__getitems__([3])
    with torch.no_grad():
        story = model.read(batch["image"][:, :-1], batch["text"][:, :-1])["story"]
        tokens = batch["tokens"].clamp(min=0)
        log_probabilities = model.text_decoder.distribution(story, tokens, batch["context_tokens"])[0]
    pairs = zip(log_probabilities, batch["tokens"][0].tolist(), strict=True)
    ranks = [(row > row[token]).sum().item() + 1 for row, token in pairs if token >= 0]
    assert rows["top1"][3] == sum(rank == 1 for rank in ranks) and rows["top5"][3] == sum(rank <= 5 for rank in ranks)


def test_a_sampling_decoder_is_scored_by_its_best_sample_and_their_spread(model, held_out, tiny_sets, targets):
    calls = []

    def sample(state, context, count, generator):
        calls.append(count)
        return torch.stack([context[:, i % context.shape[1]] for i in range(count)], 1)

    model.image_decoder.sample = sample
    try:
        prediction = dataclasses.replace(
            predict(model, tiny_sets["vocabulary"], held_out, tiny_sets["train"]), shared=None
        )
    finally:
        del model.image_decoder.sample
    assert calls == [4] and prediction.samples.shape == (8, 4, 3, 16, 16)
    table = targets.score(prediction)
    errors = [targets.score(copy(held_out, position))["image_l1"].to_numpy() for position in range(4)]
    assert table["best_l1"].to_numpy() == pytest.approx(np.min(errors, axis=0), abs=1e-6)
    first, second = np.tril_indices(4, -1)
    spread = (prediction.samples[:, first] - prediction.samples[:, second]).abs().mean((1, 2, 3, 4))
    assert table["sample_spread"].to_numpy() == pytest.approx(spread.numpy(), abs=1e-6)


def test_the_frechet_distance_is_that_of_the_projected_features(held_out, targets):
    table = targets.score(copy(held_out, 3))
    predicted, true = (
        table[[f"{name}_feature_{i}" for i in range(16)]].to_numpy(float) for name in ("predicted", "true")
    )
    expected = frechet_distance(moments(predicted).sum(0), moments(true).sum(0))
    assert values(table)["frechet"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert values(table)["frechet"] > 0


def test_chance_of_the_alignment_is_that_of_random_pairs(model, held_out, targets):
    image, text = shared(model, held_out)
    metrics = values(targets.score(Prediction(shared=(image, text), random=True)))
    orders = [torch.randperm(24, generator=torch.Generator().manual_seed(seed)) for seed in range(300)]
    distances = [((image - text[order]) ** 2).sum(1).mean().item() for order in orders]
    assert metrics["alignment"] == pytest.approx(np.mean(distances), abs=0.02)
    assert metrics["probe_recall@10"] == metrics["image_to_text_recall@10"]


def test_sums_by_story_and_seed_reduce_to_the_value(scored):
    table = scored[0][scored[0]["predictor"] == MODEL]
    two = pd.concat([table.assign(seed=1), table.assign(seed=2)])
    for name, metric in METRICS.items():
        if metric.value(table) is None:
            continue
        sums = metric.sums(table)
        assert sums.shape[:2] == (1, 4) and metric.sums(two).shape[:2] == (2, 4)
        assert float(metric.reduce(sums.sum((0, 1)))) == pytest.approx(metric.value(table)), name


# What must not change a score, and what must not be scored


def test_the_scale_of_an_embedding_changes_nothing(held_out, targets):
    one = random(held_out, 5)
    tables = [targets.score(p) for p in (one, dataclasses.replace(one, image=7 * one.image, text=0.01 * one.text))]
    ranks = [column for column in tables[0] if column.endswith("_rank")]
    assert len(ranks) == 6
    pd.testing.assert_frame_equal(tables[0][ranks], tables[1][ranks])


def test_the_order_of_windows_and_stories_changes_no_metric(scored):
    table = scored[0]
    shuffled = table.sample(frac=1, random_state=0)
    for predictor in (MODEL, "nearest", "chance"):
        before, after = (values(t[t["predictor"] == predictor]) for t in (table, shuffled))
        for name, value in before.items():
            assert after[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), name


@pytest.mark.parametrize("part", ["image", "text", "picture", "samples", "nll", "top1"])
def test_a_value_that_is_not_a_number_is_refused_and_its_window_named(held_out, targets, part):
    prediction = perfect(held_out)
    broken = getattr(prediction, part).clone().float()
    broken[5] = torch.nan
    story, frame = held_out.keys[held_out.frames[5, -1]]
    message = f"predicted {part} of the window that ends on frame {frame} of story '{story}'.*Did the training"
    with pytest.raises(EvaluationError, match=message):
        targets.score(dataclasses.replace(prediction, **{part: broken}))


def test_an_empty_generation_scores_zero_and_breaks_nothing(held_out, targets):
    metrics = values(targets.score(Prediction(words=[""] * len(held_out))))
    for name in ("bleu", "chrf", "rouge_l", "meteor", "cider_d", "length_ratio"):
        assert metrics[name] == 0, name
    assert metrics["distinct_1"] is None  # without words there are no different ones


def test_identical_texts_for_every_window_have_little_variety(held_out, targets):
    metrics = values(targets.score(Prediction(words=["The fox takes a step."] * len(held_out))))
    true = [word for text in perfect(held_out).words for word in words(text)]
    assert metrics["distinct_1"] == pytest.approx(100 * (5 / 40) / (len(set(true)) / len(true)))
    assert metrics["distinct_2"] < metrics["distinct_1"]


def test_markup_is_stripped_before_scoring(held_out, targets):
    texts = perfect(held_out).words
    marked = [f"<gdi image{i}> <gdo char1>{text}</gdo> </gdi>" for i, text in enumerate(texts)]
    with_markup, without = (targets.score(Prediction(words=part)) for part in (marked, texts))
    assert values(with_markup) == values(without) and not any("<" in text for text in with_markup["generation"])


def test_one_story_with_one_window_can_be_scored(tiny_data, tiny_sets, model):
    """Its context and target are all its frames: one candidate, and no other story's context."""
    story = dataclasses.replace(tiny_data.splits.test[0], frames=tiny_data.splits.test[0].frames[:5])
    held_out = WindowDataset(tiny_data.features, [story], tiny_sets["vocabulary"], tiny_config())
    table, _ = evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], held_out)
    rows = rows_of(table, MODEL)
    assert len(rows) == 1 and rows["nll_shuffled"].isna().all()
    assert values(rows)["image_recall@1"] is None and values(rows)["cross_entropy"] > 0
