"""Evaluation: known predictors get the scores they must get, by brute force where it can be done."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config
from sacrebleu.metrics.bleu import BLEU

from storylib import metrics
from storylib.evaluation import MODEL, ORACLE, EvaluationError, Truth, evaluate, predict, shared
from storylib.floors import Prediction, Rotated, copies
from storylib.judges import Judges
from storylib.protocol import BLEU_COLUMNS, METRICS
from storylib.training import WindowDataset, as_drawn, build_model


@pytest.fixture(scope="module")
def model(tiny_data, tiny_sets):
    """Not trained, but moved away from its start."""
    config = tiny_config()
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"]).eval()
    with torch.no_grad():
        for part in (model.next_image.correction, model.next_text.correction):
            part.weight.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def judges(tiny_data):
    return Judges(tiny_config())


@pytest.fixture(scope="module")
def scored(model, tiny_sets, judges):
    return evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], tiny_sets["test"], judges)


@pytest.fixture
def held(model, tiny_sets):
    tiny_sets["test"].embed_bank(model)
    return tiny_sets["test"]


@pytest.fixture
def truth(held, model, judges):
    judges.learn(held.texts, held.text[:])
    return Truth(held, model, judges)


def perfect(held) -> Prediction:
    target = held.frames[:, -1]
    return Prediction(
        image=held.bank["image_bank"][target],
        text=held.bank["text_bank"][target],
        words=[held.texts[i] for i in target],
        picture=as_drawn(held.pictures[target]),
        samples=torch.stack([as_drawn(held.pictures[target])] * 2, 1),
        nll=torch.zeros(len(held)),
        nll_shuffled=torch.ones(len(held)),
        top1=(held.tokens[target] > 0).sum(1),
        top5=(held.tokens[target] > 0).sum(1),
    )


def values(table: pd.DataFrame) -> dict[str, float | None]:
    return {name: metric.value(table) for name, metric in METRICS.items()}


def test_a_perfect_predictor_gets_everything(held, truth):
    found = values(truth.score(perfect(held)))
    for name in ("image", "text", "page"):
        assert found[f"{name}_recall@10"] == found[f"{name}_story_recall@1"] == 100
        assert found[f"{name}_mrr"] == 1
    assert found["image_recall@1"] == found["text_recall@1"] == 100
    assert found["bleu"] == pytest.approx(100) and found["rouge_l"] == pytest.approx(100)
    assert (found["meteor"] or found["meteor_exact_stem"]) > 99 and found["chrf"] == pytest.approx(100)
    assert found["text_similarity"] == pytest.approx(1, abs=1e-5) and found["image_cosine"] == pytest.approx(
        1, abs=1e-5
    )
    assert found["top1"] == found["top5"] == 100 and found["text_cosine"] == pytest.approx(1, abs=1e-5)
    for name in ("distinct_1", "distinct_2", "length_ratio", "sharpness"):
        assert found[name] == pytest.approx(100)
    assert found["frechet"] == pytest.approx(0, abs=1e-6) and found["best_l1"] == found["sample_spread"] == 0
    assert found["image_l1"] == 0 and found["image_ssim"] == pytest.approx(1, abs=1e-5)
    assert found["cross_entropy"] == 0 and found["perplexity"] == 1
    assert found["context_gap"] == pytest.approx(8 / truth.tokens.sum().item())


def random(held, seed: int) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    return Prediction(
        image=torch.randn(len(held), 24, generator=generator), text=torch.randn(len(held), 20, generator=generator)
    )


def test_random_predictions_are_about_chance(held, truth):
    chance = values(truth.score(Prediction(guesses=True)))
    tables = [truth.score(random(held, seed)) for seed in range(150)]
    found = values(pd.concat(tables))
    for name in ("image", "text", "page"):
        assert found[f"{name}_mrr"] == pytest.approx(chance[f"{name}_mrr"], abs=0.06)
        assert found[f"{name}_recall@10"] == pytest.approx(chance[f"{name}_recall@10"], abs=8)
        assert found[f"{name}_story_recall@1"] == pytest.approx(chance[f"{name}_story_recall@1"], abs=12)


def by_brute_force(held, prediction, kind: str, in_story: bool) -> tuple[list[float], list[float]]:
    """Rank and number of candidates of each window's target, by comparing pages one by one."""
    ranks, counts = [], []
    pages = [(s, f) for s in {w.story.id: w.story for w in held.windows}.values() for f in s.frames]
    for row, window in enumerate(held.windows):
        score, rivals = {}, []
        for column, (story, frame) in enumerate(pages):
            parts = {
                name: F.cosine_similarity(getattr(prediction, name)[row], held.bank[f"{name}_bank"][column], dim=0)
                for name in ("image", "text")
            }
            value = (parts["image"] + parts["text"] if kind == "page" else parts[kind]).item()
            if story is window.story and frame.page == window.target.page:
                score["own"] = value
                continue
            copied = {
                "image": frame.image.tobytes() == window.target.image.tobytes(),
                "text": frame.text == window.target.text,
            }
            is_copy = all(copied.values()) if kind == "page" else copied[kind]
            in_context = story is window.story and frame.page in [f.page for f in window.context]
            if not is_copy and not in_context and (not in_story or story is window.story):
                rivals.append(value)
        counts.append(1 + len(rivals) if rivals else np.nan)
        ranks.append(1 + sum(v > score["own"] for v in rivals) if rivals else np.nan)
    return ranks, counts


@pytest.mark.parametrize("kind", ["image", "text", "page"])
@pytest.mark.parametrize("in_story", [False, True])
def test_ranks_and_candidates_equal_brute_force(held, truth, kind, in_story):
    prediction = random(held, 7)
    table = truth.score(prediction)
    ranks, counts = by_brute_force(held, prediction, kind, in_story)
    name = f"{kind}_story" if in_story else kind
    assert table[f"{name}_candidates"].tolist() == counts
    assert table[f"{name}_rank"].tolist() == ranks


def test_context_pages_and_copies_are_no_candidates(truth):
    """24 pages less 4 of the context; the last windows' pictures have one copy in another story."""
    counts = truth.score(Prediction(guesses=True))
    last = counts["page"] == 6
    assert counts.loc[last, "image_candidates"].eq(19).all() and counts.loc[~last, "image_candidates"].eq(20).all()
    assert counts["text_candidates"].eq(20).all() and counts["page_candidates"].eq(20).all()
    assert counts["text_story_candidates"].eq(2).all()


def test_the_retrieved_page_is_the_best_allowed_one(held, truth):
    table = truth.score(random(held, 3))
    scores = sum(F.normalize(getattr(random(held, 3), n), dim=-1) @ held.bank[f"{n}_bank"].T for n in ("image", "text"))
    for row, window in enumerate(held.windows):
        allowed = [i for i, k in enumerate(held.keys) if k not in [(window.story.id, f.page) for f in window.context]]
        best = held.keys[max(allowed, key=lambda i: scores[row, i].item())]
        assert (table["retrieved_story"][row], table["retrieved_page"][row]) == best
    assert truth.score(perfect(held))["retrieved_page"].tolist() == [w.target.page for w in held.windows]


def test_a_story_with_nothing_to_choose_from_asks_no_question(tiny_data, tiny_sets, model):
    """Stories of five pages have one window, whose context and target are all there is."""
    short = [dataclasses.replace(s, frames=s.frames[:5]) for s in tiny_data.splits.test]
    data = WindowDataset(tiny_data.features, short, tiny_sets["vocabulary"], tiny_config())
    data.embed_bank(model)
    table = Truth(data).score(random(data, 0))
    assert table["image_story_rank"].isna().all() and table["image_story_candidates"].isna().all()
    assert table["image_rank"].notna().all()
    assert values(table)["image_story_recall@1"] is None
    assert values(Truth(data).score(Prediction(guesses=True)))["image_story_recall@1"] is None


def test_only_test_stories_are_scored(scored, tiny_data):
    table, drawn = scored
    assert set(table["story"]) == {s.id for s in tiny_data.splits.test}
    assert len(drawn) == 8 and drawn.dtype == np.uint8 and drawn.shape[1:] == (16, 16, 3)
    ours = table[table["predictor"] == MODEL]
    assert len(ours) == 24 and ours["image_rank"].notna().sum() == 8  # pages of no window count across modes only
    assert sorted(ours["picture"].dropna()) == list(range(8))


def test_every_predictor_is_scored_on_the_same_windows(scored):
    table = scored[0].dropna(subset=["tokens"])
    windows = {name: list(zip(t["story"], t["page"], strict=True)) for name, t in table.groupby("predictor")}
    assert len(windows) == 13
    assert all(sorted(w) == sorted(windows[MODEL]) for w in windows.values())


def test_the_oracle_is_at_least_as_good_as_each_copy(scored, held, truth):
    best = values(scored[0][scored[0]["predictor"] == ORACLE])
    each = [values(truth.score(c)) for c in copies(held)]
    names = [n for n in METRICS if best[n] is not None and n != "bleu"]
    assert {"image_recall@1", "text_mrr", "image_l1", "image_ssim", "rouge_l", "cider_d", "chrf"} <= set(names)
    for name in names:
        sign = 1 if METRICS[name].higher_is_better else -1
        assert all(sign * best[name] >= sign * one[name] - 1e-9 for one in each), name
    strictly = [n for n in names if all(best[n] != one[n] for one in each)]
    assert strictly  # it does choose


def test_an_untrained_model_scores_like_its_floor(tiny_data, tiny_sets):
    model = build_model(tiny_config(), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    table, _ = evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], tiny_sets["test"])
    ours, recency, mean = (table[table["predictor"] == p].dropna(subset=["tokens"]) for p in (MODEL, "recency", "mean"))
    for column in ("image_rank", "text_rank", "page_rank", "image_story_rank"):
        assert ours[column].tolist() == recency[column].tolist()
    assert ours["image_l1"].to_numpy() == pytest.approx(mean["image_l1"].to_numpy(), abs=1e-5)


def test_the_likelihood_of_the_truth_is_that_of_the_decoder(scored, model, held, tiny_sets):
    ours = scored[0][scored[0]["predictor"] == MODEL].dropna(subset=["tokens"]).reset_index()
    for row in (0, 5):
        batch = held[row]
        with torch.no_grad():
            out = model(batch)
        real = batch["tokens"] != -100
        assert ours["nll"][row] == pytest.approx(-out["token_log_probabilities"][real].sum().item(), rel=1e-4)
        assert ours["tokens"][row] == real.sum().item()
        other = held[(row + 4) % 8]  # half-way round
        with torch.no_grad():
            away = model(batch | {k: other[k] for k in ("image", "text", "context_tokens", "context_pictures")})
        expected = -away["token_log_probabilities"][real].sum().item()
        assert ours["nll_shuffled"][row] == pytest.approx(expected, rel=1e-4)


def test_a_rotated_context_is_another_storys(held):
    rotated = Rotated(held)
    assert (held.story_id[held.frames[:, 0]] != held.story_id[rotated.frames[:, 0]]).all()
    assert sorted(rotated.frames.tolist()) == sorted(held.frames.tolist())
    assert torch.equal(held.frames, Rotated(rotated).frames)


def test_a_rotated_context_is_another_storys_though_one_is_long():
    story = torch.tensor([0] * 6 + [1] * 2)
    held = SimpleNamespace(frames=torch.arange(8)[:, None], story_id=story)
    assert (story[Rotated(held).frames[:, 0]] != story).all()


def test_cross_modal_ranks_by_loop(model, held, truth):
    table = (
        truth.score(Prediction(shared=shared(model, held))).set_index(["story", "page"]).loc[held.keys].reset_index()
    )
    with torch.no_grad():
        image, text = model.shared(held.image[:], held.text[:])
    for name, query, answer, ids in (
        ("image_to_text", image, text, held.text_id), ("text_to_image", text, image, held.image_id),
    ):  # fmt: skip
        for row in range(24):
            scores = [(query[row] @ answer[i]).item() for i in range(24) if i == row or ids[i] != ids[row]]
            own = (query[row] @ answer[row]).item()
            assert table[f"{name}_rank"][row] == 1 + sum(s > own + 1e-6 for s in scores)
            assert table[f"{name}_candidates"][row] == len(scores)
    assert sorted(table["text_to_image_candidates"].unique()) == [23, 24]


# ---- metrics as sums


def test_metric_values_by_hand():
    table = pd.DataFrame(
        {"image_rank": [1.0, 3, np.nan], "image_candidates": [10.0, 10, np.nan], "nll": [2.0, 4, np.nan],
         "nll_shuffled": [3.0, 5, np.nan], "tokens": [1, 3, 9], "image_l1": [0.1, 0.3, np.nan], "rouge_l": [0.5, 1, 0]}
    )  # fmt: skip
    found = values(table)
    assert found["image_recall@1"] == 50 and found["image_recall@5"] == 100
    assert found["image_mrr"] == pytest.approx(2 / 3)
    assert found["cross_entropy"] == pytest.approx(6 / 4) and found["perplexity"] == pytest.approx(np.exp(1.5))
    assert found["context_gap"] == pytest.approx(2 / 4)
    assert found["image_l1"] == pytest.approx(0.2) and found["rouge_l"] == 50
    assert found["text_mrr"] is None and found["bleu"] is None


def test_chance_has_its_expected_values():
    table = pd.DataFrame({"image_rank": [np.nan, np.nan], "image_candidates": [4.0, 20.0]})
    found = values(table)
    assert found["image_recall@5"] == pytest.approx(100 * (1 + 5 / 20) / 2)
    expected = metrics.chance_reciprocal_rank(np.array([4, 20])).mean()
    assert found["image_mrr"] == pytest.approx(expected)


def test_corpus_bleu_is_not_a_mean_of_sentences():
    counts = metrics.bleu_counts(["a b c d e f", "x"], ["a b c d e f", "y z"])
    table = pd.DataFrame(counts, columns=BLEU_COLUMNS)
    expected = BLEU(lowercase=True).corpus_score(["a b c d e f", "x"], [["a b c d e f", "y z"]]).score
    assert values(table)["bleu"] == pytest.approx(expected)


def test_sums_by_story_and_seed_reduce_to_the_value(scored):
    table = scored[0][scored[0]["predictor"] == MODEL]
    two = pd.concat([table.assign(seed=1), table.assign(seed=2)])
    for name, metric in METRICS.items():
        if metric.value(table) is None:
            continue
        sums = metric.sums(table)
        assert sums.shape[:2] == (1, 4)
        assert float(metric.reduce(sums.sum((0, 1)))) == pytest.approx(metric.value(table)), name
        assert metric.sums(two).shape[:2] == (2, 4)


# ---- what must not change a score, and what must not be scored


def test_the_scale_of_an_embedding_changes_nothing(held, truth):
    one = random(held, 5)
    other = dataclasses.replace(one, image=7 * one.image, text=0.01 * one.text)
    ranks = [c for c in truth.score(one) if c.endswith("_rank")]
    assert len(ranks) == 6
    pd.testing.assert_frame_equal(truth.score(one)[ranks], truth.score(other)[ranks])


def test_the_order_of_windows_and_stories_changes_no_metric(scored):
    table = scored[0]
    mixed = table.sample(frac=1, random_state=0)
    for predictor in (MODEL, "nearest", "chance"):
        before, after = (values(t[t["predictor"] == predictor]) for t in (table, mixed))
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert after[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), name


@pytest.mark.parametrize("part", ["image", "text", "picture", "samples", "nll", "top1"])
def test_what_is_not_a_number_is_refused_and_its_window_named(held, truth, part):
    good = perfect(held)
    broken = getattr(good, part).clone().float()
    broken[5] = torch.nan
    story, page = held.keys[held.frames[5, -1]]
    with pytest.raises(EvaluationError, match=f"predicted {part} .* page {page} of story '{story}'.*Did the training"):
        truth.score(dataclasses.replace(good, **{part: broken}))


def test_an_empty_generation_scores_nothing_and_breaks_nothing(held, truth):
    found = values(truth.score(Prediction(words=[""] * len(held))))
    for name in ("bleu", "chrf", "rouge_l", "cider_d", "length_ratio"):
        assert found[name] == 0, name
    assert (found["meteor"] if found["meteor"] is not None else found["meteor_exact_stem"]) == 0
    assert found["distinct_1"] is None  # of no words, none can be different


def test_identical_texts_for_every_window_have_little_variety(held, truth):
    found = values(truth.score(Prediction(words=["The fox takes a step."] * len(held))))
    true = [w for text in perfect(held).words for w in metrics.words(text)]
    assert found["distinct_1"] == pytest.approx(100 * (5 / 40) / (len(set(true)) / len(true)))
    assert found["distinct_2"] < found["distinct_1"]


def test_markup_is_stripped_from_both_sides(held, truth, model, judges):
    words = [f"<gdi image{i}> <gdo char1>{text}</gdo> </gdi>" for i, text in enumerate(perfect(held).words)]
    assert values(truth.score(Prediction(words=words))) == values(truth.score(Prediction(words=perfect(held).words)))
    assert not any("<" in text for text in truth.score(Prediction(words=words))["generation"])


def test_one_story_with_one_window_can_be_scored(tiny_data, tiny_sets, model):
    """Its context and target are all pages there are: one candidate, so no question is asked."""
    story = dataclasses.replace(tiny_data.splits.test[0], frames=tiny_data.splits.test[0].frames[:5])
    held = WindowDataset(tiny_data.features, [story], tiny_sets["vocabulary"], tiny_config())
    table, _ = evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], held)
    ours = table[table["predictor"] == MODEL].dropna(subset=["tokens"])
    assert len(ours) == 1 and ours["nll_shuffled"].isna().all()  # nor is there another story
    assert values(ours)["image_recall@1"] is None and values(ours)["cross_entropy"] > 0


def test_the_model_says_how_often_it_guesses_the_next_token(scored, model, held, tiny_sets):
    ours = scored[0][scored[0]["predictor"] == MODEL].dropna(subset=["tokens"]).reset_index()
    batch = held[3]
    with torch.no_grad():
        out = model.read(batch["image"][:, :-1], batch["text"][:, :-1])
        said = model.text_decoder.distribution(out["story"], batch["tokens"].clamp(min=0), batch["context_tokens"])[0]
    places = [(row > row[t]).sum().item() + 1 for row, t in zip(said, batch["tokens"][0], strict=True) if t >= 0]
    assert ours["top1"][3] == sum(p == 1 for p in places) and ours["top5"][3] == sum(p <= 5 for p in places)


def test_a_decoder_that_samples_is_scored_by_its_best_and_by_its_variety(model, held, tiny_sets, truth):
    calls = []

    def sample(state, context, count, generator):
        calls.append(count)
        return torch.stack([context[:, i % context.shape[1]] for i in range(count)], 1)

    model.image_decoder.sample = sample
    try:
        prediction = dataclasses.replace(predict(model, tiny_sets["vocabulary"], held), shared=None)
    finally:
        del model.image_decoder.sample
    assert calls == [4] and prediction.samples.shape == (8, 4, 3, 16, 16)
    table = truth.score(prediction)
    copied = [truth.score(c)["image_l1"].to_numpy() for c in copies(held)]
    assert table["best_l1"].to_numpy() == pytest.approx(np.min(copied, axis=0), abs=1e-6)
    apart = [
        (prediction.samples[:, i] - prediction.samples[:, j]).abs().mean((1, 2, 3)).numpy()
        for i in range(4) for j in range(i)
    ]  # fmt: skip
    assert table["sample_spread"].to_numpy() == pytest.approx(np.mean(apart, axis=0), abs=1e-6)


def test_the_frechet_distance_is_that_of_the_projected_features(held, truth, judges):
    table = truth.score(copies(held)[3])
    made, true = (table[[f"{w}_feature_{i}" for i in range(16)]].to_numpy(float) for w in ("made", "true"))
    assert values(table)["frechet"] == pytest.approx(metrics.frechet_distance(made, true), rel=1e-4, abs=1e-6)
    assert values(table)["frechet"] > 0


def test_chance_of_the_alignment_is_that_of_random_pairs(model, held, truth):
    image, text = shared(model, held)
    found = values(truth.score(Prediction(shared=(image, text), guesses=True)))
    drawn = [
        ((image - text[torch.randperm(24, generator=torch.Generator().manual_seed(s))]) ** 2).sum(1).mean().item()
        for s in range(300)
    ]
    assert found["alignment"] == pytest.approx(np.mean(drawn), abs=0.02)
    assert found["probe_recall@10"] == found["image_to_text_recall@10"]
