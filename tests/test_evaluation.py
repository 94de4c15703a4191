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

from storylib import evaluation, metrics
from storylib.evaluation import METRICS, MODEL, ORACLE, Rotated, Truth, evaluate, metric_value, summarise, sums_of
from storylib.floors import Prediction, copies
from storylib.training import WindowDataset, build_model


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
def scored(model, tiny_sets):
    return evaluate(model, tiny_sets["vocabulary"], tiny_sets["train"], tiny_sets["test"])


@pytest.fixture
def held(model, tiny_sets):
    tiny_sets["test"].embed_bank(model)
    return tiny_sets["test"]


@pytest.fixture
def truth(held, tiny_sets):
    return Truth(held, tiny_sets["vocabulary"])


def perfect(held) -> Prediction:
    target = held.frames[:, -1]
    return Prediction(
        image=held.bank["image_bank"][target],
        text=held.bank["text_bank"][target],
        words=[held.texts[i] for i in target],
        picture=held.pictures[target].float() / 255,
        nll=torch.zeros(len(held)),
        nll_shuffled=torch.ones(len(held)),
    )


def values(table: pd.DataFrame) -> dict[str, float | None]:
    return {name: metric_value(metric, table) for name, metric in METRICS.items()}


def test_a_perfect_predictor_gets_everything(held, truth):
    found = values(truth.score(perfect(held)))
    for name in ("image", "text", "page"):
        assert found[f"{name}_recall@10"] == found[f"{name}_story_recall@1"] == 100
        assert found[f"{name}_mrr"] == 1
    assert found["image_recall@1"] == found["text_recall@1"] == 100
    assert found["bleu"] == pytest.approx(100) and found["rouge_l"] == pytest.approx(100)
    assert found["meteor"] > 99 and found["chrf"] == pytest.approx(100)
    assert found["image_l1"] == 0 and found["image_ssim"] == pytest.approx(1, abs=1e-5)
    assert found["cross_entropy"] == 0 and found["perplexity"] == 1
    assert found["context_gap"] == pytest.approx(8 / truth.tokens.sum().item())


def random(held, seed: int) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    return Prediction(
        image=torch.randn(len(held), 24, generator=generator), text=torch.randn(len(held), 20, generator=generator)
    )


def test_random_predictions_are_about_chance(held, truth):
    chance = values(truth.score(Prediction()))
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
    counts = truth.score(Prediction())
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
    table = Truth(data, tiny_sets["vocabulary"]).score(random(data, 0))
    assert table["image_story_rank"].isna().all() and table["image_story_candidates"].isna().all()
    assert table["image_rank"].notna().all()
    assert values(table)["image_story_recall@1"] is None
    assert values(Truth(data, tiny_sets["vocabulary"]).score(Prediction()))["image_story_recall@1"] is None


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
    assert len(windows) == 10
    assert all(sorted(w) == sorted(windows[MODEL]) for w in windows.values())


def test_the_oracle_is_at_least_as_good_as_each_copy(scored, held, truth):
    best = values(scored[0][scored[0]["predictor"] == ORACLE])
    each = [values(truth.score(c)) for c in copies(held)]
    names = [n for n in METRICS if best[n] is not None and n != "bleu"]
    assert {"image_recall@1", "text_mrr", "image_l1", "image_ssim", "rouge_l", "meteor", "chrf"} <= set(names)
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


def test_cross_modal_ranks_by_loop(model, held):
    table = evaluation.cross_modal(model, held)
    with torch.no_grad():
        image, text = model.shared(held.image, held.text)
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
    table = pd.DataFrame(counts, columns=evaluation.BLEU_COLUMNS)
    expected = BLEU(lowercase=True).corpus_score(["a b c d e f", "x"], [["a b c d e f", "y z"]]).score
    assert values(table)["bleu"] == pytest.approx(expected)


def test_sums_by_story_and_seed_reduce_to_the_value(scored):
    table = scored[0][scored[0]["predictor"] == MODEL]
    two = pd.concat([table.assign(seed=1), table.assign(seed=2)])
    for name, metric in METRICS.items():
        sums = sums_of(metric, table)
        assert sums.shape[:2] == (1, 4)
        assert float(metric.reduce(sums.sum((0, 1)))) == pytest.approx(metric_value(metric, table)), name
        assert sums_of(metric, two).shape[:2] == (2, 4)


# ---- the summary


@pytest.fixture(scope="module")
def summary(scored):
    return summarise(scored[0], draws=100)


def test_every_metric_of_the_protocol_is_summarised_beside_its_floors(summary, scored):
    assert set(summary) == set(METRICS)
    table = scored[0][scored[0]["predictor"] == MODEL]
    for name, entry in summary.items():
        assert entry["floors"] and entry["value"] == pytest.approx(metric_value(METRICS[name], table), abs=1e-6)
        assert entry["interval"][0] <= entry["value"] <= entry["interval"][1]
        assert (entry["title"], entry["group"]) == (METRICS[name].title, METRICS[name].group)
    assert {"chance", "copy-last", "mean", "recency", "nearest", ORACLE} == set(summary["image_mrr"]["floors"])
    assert set(summary["cross_entropy"]["floors"]) == {"unigram", "trigram"}
    assert set(summary["image_to_text_mrr"]["floors"]) == {"chance"}
    assert "median" in summary["image_l1"]["floors"]


def test_the_gain_is_over_the_best_honest_floor(summary, scored):
    for name, entry in summary.items():
        honest = {f: v for f, v in entry["floors"].items() if f != ORACLE}
        hardest = (max if entry["higher_is_better"] else min)(honest.values())
        assert entry["best_floor"] in honest and honest[entry["best_floor"]] == hardest
        assert entry["gain"] == pytest.approx(entry["value"] - hardest, abs=2e-6), name
        assert entry["gain_interval"][0] <= entry["gain"] <= entry["gain_interval"][1]


def test_a_floor_gains_nothing_over_itself(scored):
    table = scored[0][scored[0]["predictor"] == "recency"]
    both = pd.concat([table.assign(predictor=MODEL), table])
    for entry in summarise(both, draws=50).values():
        assert (entry["gain"], entry["gain_interval"]) == (0, [0, 0])


def test_a_metric_without_a_floor_is_left_out(scored):
    table = scored[0]
    found = summarise(table[table["predictor"].isin([MODEL, "unigram"])], draws=20)
    assert set(found) == {"cross_entropy", "perplexity", "context_gap"}
    alone = summarise(table[table["predictor"] == MODEL], draws=20)
    assert set(alone) <= {"context_gap"}


def test_the_summary_is_the_same_every_time(summary, scored):
    assert summarise(scored[0], draws=100) == summary
