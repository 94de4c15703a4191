"""Shared fixtures. Tests never touch the user's cache or runs."""

from __future__ import annotations

import atexit
import dataclasses
import gc
import os
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from storylib.config import project_root

# Set before storylib is used anywhere, also in the notebooks and commands that tests start.
_scratch = tempfile.mkdtemp(prefix="storylib-tests-")
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
os.environ["STORYLIB_CACHE"] = os.path.join(_scratch, "cache")
os.environ["STORYLIB_RUNS"] = os.path.join(_scratch, "runs")
os.environ["OMP_NUM_THREADS"] = "1"  # two tests at a time; and a copy of a process with more threads would hang

gc.set_threshold(100_000, 50, 100)  # what stays until the end is not searched again and again

# The same examples every time, and no folder of failed ones in the checkout.
settings.register_profile("storylib", database=None, derandomize=True, deadline=None)
settings.load_profile("storylib")

REAL = project_root().parent / "shared" / "data" / "african_storybook"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under pytest-xdist, what uses the tiny runs shares a worker, so that they are trained once."""
    for item in items:
        if "tiny_runs" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("tiny-runs"))


@pytest.fixture(scope="session")
def real_stories_folder() -> Path:
    """The real African Storybook, where this machine has it."""
    if not REAL.is_dir():
        pytest.skip("the real stories are not at ../shared/data/african_storybook")
    return REAL


@pytest.fixture
def strict_figures() -> Iterator[None]:
    """A warning while drawing is an error, and every figure is closed."""
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def noise(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of large coloured blobs, so that its perceptual hash survives a change of size and quality."""
    blobs = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)


def pictures(*seeds: int) -> Any:
    """(N, 3, 32, 32) pictures of ``noise``, from 0 to 1."""
    import torch

    return torch.from_numpy(np.stack([noise(seed, (32, 32)) for seed in seeds])).permute(0, 3, 1, 2).float() / 255


def flip(path: Path, place: int = -1) -> None:
    """Change one byte of a file to another digit, as a failing disk might."""
    content = bytearray(path.read_bytes())
    content[place] = ord("7") if content[place] != ord("7") else ord("3")
    path.unlink()  # a process that has mapped the file keeps the old content
    path.write_bytes(content)


TEXT_PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the fox owl runs sleeps home .".split()


def text_folder(folder: Path, kind: str) -> Path:
    """Write a tiny "bert" or "distilbert" with random weights and the words above, as a hub would give it."""
    import torch
    from transformers import AutoConfig, AutoModel, BertTokenizerFast

    sizes = {
        "bert": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        "distilbert": {"dim": 8, "hidden_dim": 8, "n_layers": 1, "n_heads": 2},
    }[kind]
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=len(TEXT_PIECES), **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(TEXT_PIECES))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


# A tiny world for the trained parts: 14 stories of 6 frames, and encoders that are fixed random projections.

HEROES = "fox owl bear frog lion goat duck hare wolf crab swan mole seal toad".split()
TINY = {
    "width": 16, "image_size": 16, "text_length": 16, "epochs": 2, "batch_size": 8,
    "device": "cpu", "image_decoder": "upsampling", "feature_weight": 0.0,  # no sampling and no network to load
}  # fmt: skip


def tiny_stories() -> list[Any]:
    """Each story has its own hero and colour; some share the picture of their last frame and the text of the first."""
    from storylib.data.types import Frame, Story

    stories = []
    for i, hero in enumerate(HEROES):
        frames = []
        for number in range(1, 7):
            shade = np.random.default_rng(1000 * i + number).integers(0, 60, (24, 24, 3)) + 12 * i
            shade[:, 4 * number - 4 : 4 * number] = 255  # a bar that moves from frame to frame
            text = f"The {hero} takes step {number} to the {HEROES[(i + number) % len(HEROES)]}."
            frames.append(Frame(Image.fromarray(shade.astype(np.uint8)), text, number))
        stories.append(Story(f"s{i:02d}", f"The {hero}", tuple(frames), "CC-BY", "us", group=f"g{i}"))
    for i in (10, 12):  # both stories are held out for the test
        frames = list(stories[i + 1].frames)
        frames[0] = dataclasses.replace(frames[0], text=stories[i].frames[0].text)
        frames[5] = dataclasses.replace(frames[5], image=stories[i].frames[5].image)
        stories[i + 1] = dataclasses.replace(stories[i + 1], frames=tuple(frames))
    return stories


class StubEncoder:
    """A fixed random projection of pixels or of words. ``seen`` counts what was encoded."""

    def __init__(self, name: str, dim: int) -> None:
        self.name, self.dim, self.seen = name, dim, 0
        self.matrix = np.random.default_rng(dim).normal(size=(192, dim)).astype(np.float32)
        self.tokenizer, self.unk_token_id = self, None  # of texts: every word is known

    def __call__(self, texts: Any, add_special_tokens: bool) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}

    def prepare(self, item: Any) -> np.ndarray:
        if isinstance(item, str):
            words = np.zeros(192, np.float32)
            for word in item.split():
                words[zlib.crc32(word.encode()) % 192] += 1
            return words
        return np.asarray(item.resize((8, 8)), np.float32).reshape(-1) / 255

    def embed(self, prepared: Any) -> Any:
        import torch

        self.seen += len(prepared)
        rows = [self.prepare(p) if isinstance(p, str) else p for p in prepared]
        return torch.from_numpy(np.stack(rows) @ self.matrix)


def use_stub_encoders(patch: pytest.MonkeyPatch) -> dict[str, StubEncoder]:
    """Replace the frozen encoders, of features and of scores, by stubs."""
    stubs = use_stub_scoring_encoders(patch)
    patch.setattr("storylib.data.features.load_image_encoder", lambda name, device="cpu": stubs["image"])
    patch.setattr("storylib.data.features.load_text_encoder", lambda name, device="cpu": stubs["text"])
    return stubs


def use_stub_scoring_encoders(patch: pytest.MonkeyPatch) -> dict[str, StubEncoder]:
    """Replace only the encoders that score texts and pictures."""
    stubs = {"image": StubEncoder("stub-image", 24), "text": StubEncoder("stub-text", 20)}
    patch.setattr("storylib.data.scoring.load_image_encoder", lambda name, device="cpu": stubs["image"])
    patch.setattr("storylib.data.scoring.load_text_encoder", lambda name, device="cpu": stubs["text"])
    no_synonyms = SimpleNamespace(synsets=lambda *_: [])  # WordNet takes seconds to load
    patch.setattr("storylib.metrics.text._wordnet", lambda: no_synonyms)
    return stubs


@pytest.fixture
def stub_encoders(monkeypatch: pytest.MonkeyPatch) -> dict[str, StubEncoder]:
    return use_stub_encoders(monkeypatch)


@pytest.fixture(autouse=True)
def nothing_prepared() -> Iterator[None]:
    """Data prepared by one test, perhaps with stubs, are not found by the next."""
    yield
    forget_prepared_data()


def forget_prepared_data() -> None:
    runs = sys.modules.get("storylib.experiments.runs")
    if runs is not None:
        runs._prepare.cache_clear()
        runs.stories_of.cache_clear()


def tiny_config(**overrides: Any) -> Any:
    from storylib.config import Config

    return Config().replace(**(TINY | overrides))


@pytest.fixture(scope="session")
def tiny_data() -> Iterator[Any]:
    """Prepared Data: 8 stories for training, 2 for validation, 4 for the test, with stub features.

    Scores use the same stubs while the session lasts.
    """
    from storylib.data.features import encode
    from storylib.data.splits import Splits
    from storylib.experiments.runs import Data

    stories = tiny_stories()
    splits = Splits(stories[:8], stories[8:10], stories[10:], {s.id: i for i, s in enumerate(stories)})
    with pytest.MonkeyPatch.context() as patch:
        use_stub_encoders(patch)
        data = Data(stories, splits, encode(stories, image_size=TINY["image_size"]))
    with pytest.MonkeyPatch.context() as patch:
        use_stub_scoring_encoders(patch)
        yield data


@pytest.fixture(scope="session")
def tiny_sets(tiny_data: Any) -> dict[str, Any]:
    """The vocabulary, and the data set of each split."""
    from storylib.data.windows import WindowDataset
    from storylib.training import build_vocabulary

    config = tiny_config()
    vocabulary = build_vocabulary(tiny_data.features, tiny_data.splits, config)
    sets = {name: WindowDataset(tiny_data.features, part, vocabulary, config) for name, part in tiny_data.splits}
    return {"vocabulary": vocabulary, **sets}


@pytest.fixture(scope="session")
def build(tiny_data: Any, tiny_sets: dict[str, Any]) -> Callable[..., Any]:
    """Builds an untrained model for the tiny stories, and puts all frames into its frozen spaces: build(width=8)."""
    from storylib.training import build_model

    def make(**overrides: Any) -> Any:
        model = build_model(tiny_config(**overrides), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
        for name in ("train", "validation", "test"):
            tiny_sets[name].embed_bank(model.image_space, model.text_space)
        return model

    return make


@pytest.fixture(scope="session")
def tiny_runs(tiny_data: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[float, int], Any]:
    """Trained and evaluated runs by contrastive weight and seed, in a folder of their own."""
    from storylib.experiments.runs import evaluate_run, train

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        runs = {}
        for weight in (1.0, 0.0):
            for seed in (0, 1):
                config = tiny_config(contrastive_weight=weight, seed=seed)
                runs[weight, seed] = evaluate_run(train(config, tiny_data), tiny_data)
    return runs


# The whole path, small: a project like this one in which everything is tiny, its notebooks executed and its book built.

PLAN = """
profiles:
  quick:
    seeds: [0, 1]
    epochs: 1
    pretraining: 1
    width: 16
    feature_weight: 0.0
    sources: {storyworld: {stories: 10}}
presets:
  storyteller: {}
arms:
  contrastive-off: {contrastive_weight: 0.0}
  contrastive-on: {contrastive_weight: 1.0}
ablation:
  factor: the contrastive loss
  arms: {with: contrastive-on, without: contrastive-off}
  only_with: [contrastive_weight]
  endpoints:
    {cross_modal_recall@10: 5, frame_in_story_mrr: 0.03, nats_per_word: 0.05, picture_distance: 2 % of copy-last}
# sweeps: none
audit:
  quick: {seeds: [0], stories: 10, epochs_a: 1, epochs_b: 1}
"""
SMALL_GROUP = "small-book"  # for pytest-xdist: tests of the small book share a worker, so that it is made once


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project: pages, notebooks and settings as they are, and a plan of two arms, two seeds and one epoch."""
    home = tmp_path_factory.mktemp("home")
    for name in ("book", "notebooks", "profiles"):
        shutil.copytree(project_root() / name, home / name)
    for name in ("_config.yml", "_toc.yml", "pyproject.toml", "Snakefile"):
        shutil.copy(project_root() / name, home)
    (home / "storylib").symlink_to(project_root() / "storylib")  # the Snakefile looks at what has changed there
    (home / "experiments.yml").write_text(PLAN)
    return home


@contextmanager
def at_home(home: Path) -> Iterator[None]:
    """Work in the small project, with real encoders even where stubs replace them for other tests."""
    from storylib.data import encoders

    forget_prepared_data()
    with pytest.MonkeyPatch.context() as patch:
        use_stub_scoring_encoders(patch)  # for METEOR without synonyms
        for name in ("load_image_encoder", "load_text_encoder"):
            patch.setattr(f"storylib.data.scoring.{name}", getattr(encoders, name))
        patch.setenv("STORYLIB_HOME", str(home))
        patch.setenv("STORYLIB_CACHE", str(home / "cache"))
        patch.setenv("STORYLIB_RUNS", str(home / "runs"))
        yield
    forget_prepared_data()


@pytest.fixture(scope="session")
def small_executed(small_home: Path) -> Path:
    """The small project's notebooks, executed, with their figures, gallery and credits.

    All runs are trained here, in this process: the notebooks find them. They share a kernel, as in the workflow.
    """
    from storylib.__main__ import run_stage
    from storylib.config import configure
    from storylib.report.acknowledgements import acknowledge
    from storylib.report.gallery import make_gallery
    from storylib.report.notebooks import run_chapters

    folder = small_home / "executed"
    with at_home(small_home):
        for arm in ("contrastive-on", "contrastive-off"):
            for seed in (0, 1):
                run_stage("evaluate", configure("quick", arm, seed=seed))
        make_gallery("storyworld", "quick", folder / "gallery.html")
        (folder / "credits.md").write_text(acknowledge("storyworld", 10), encoding="utf-8")
        contents = [folder / notebook.stem for notebook in sorted((small_home / "notebooks").glob("*.ipynb"))]
        for content in contents:
            content.write_text("new")
        run_chapters(contents, folder, {})
    return folder


@pytest.fixture(scope="session")
def small_book(small_home: Path, small_executed: Path) -> Path:
    """The folder of the small project's HTML."""
    from storylib.report.book import build_book

    with at_home(small_home):
        return build_book(small_executed, small_home / "_build").parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The Chromium of this machine, one for all tests of a worker; they skip where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    if not (path := next(filter(None, map(shutil.which, names)), None)):
        pytest.skip("no Chromium on this machine: on Debian and Ubuntu, apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A sandbox needs rights that a container does not give; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
