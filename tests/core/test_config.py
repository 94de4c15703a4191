"""Configurations: wrong names and values are refused with a hint; profiles, presets and arms are short diffs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from storylib import config as configuration
from storylib.config import (
    Config,
    ConfigError,
    cache_dir,
    configure,
    digest,
    experiments,
    project_root,
    runs_dir,
    seeds,
    slug,
    unknown,
)


def test_replace_changes_one_field_and_leaves_the_original():
    config = Config()
    changed = config.replace(seed=3, source="folder", width=64)
    assert (changed.train.seed, changed.data.source, changed.model.width) == (3, "folder", 64)
    assert config == Config()
    assert changed.replace(seed=0, source="storyworld", width=256) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sede": 1}, r"Unknown parameter 'sede'. Did you mean 'seed'\?"),
        ({"contrastive_wieght": 0.0}, r"Did you mean 'contrastive_weight'\?"),
        ({"seed": "3"}, "'seed' must be int, not '3'"),
        ({"seed": 1.0}, "'seed' must be int, not 1.0"),
        ({"seed": True}, "'seed' must be int, not True"),
        ({"seed": None}, "'seed' must be int, not None"),
        ({"learning_rate": True}, "'learning_rate' must be float"),
        ({"learning_rate": "1e-3"}, "'learning_rate' must be float"),
        ({"source": 3}, "'source' must be str"),
        ({"stories": "all"}, r"'stories' must be int \| None"),
        ({"epochs": -1}, "'epochs' must be at least 1"),
        ({"contrastive_weight": -0.5}, "'contrastive_weight' must be at least 0"),
        ({"fusion": "gates"}, r"Unknown fusion 'gates'. Did you mean 'gate'\? Known: concat, cross_attention, gate"),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
    ],
)
def test_a_wrong_parameter_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config().replace(**changes)


def test_no_hint_is_given_for_an_unrelated_name():
    assert "Did you mean" not in unknown("parameter", "zzz", ["seed"])


def test_an_integer_becomes_a_float_where_the_field_is_one():
    value = Config().replace(contrastive_weight=1).train.contrastive_weight
    assert type(value) is float and value == 1.0
    assert Config().replace(contrastive_weight=1) == Config().replace(contrastive_weight=1.0)


def test_none_is_accepted_where_it_is_allowed():
    assert Config().replace(stories=5).replace(stories=None).data.stories is None


def test_every_field_has_its_own_name_and_a_checked_type():
    parts = [getattr(Config(), f.name) for f in dataclasses.fields(Config)]
    names = [f.name for part in parts for f in dataclasses.fields(part)]
    assert len(names) == len(set(names))
    assert Config().replace(**Config().flat()) == Config()
    assert set(configuration.CHOICES) <= set(names)
    for name, options in configuration.CHOICES.items():
        for option in options:
            assert Config().replace(**{name: option}).flat()[name] == option


def test_identity_ignores_the_device_only():
    base = Config()
    assert base.replace(device="cpu").identity() == base.replace(device="cuda").identity() == base.identity()
    other = {str: "x", int: 7, float: 0.7, bool: False}
    seen = {base.identity()}
    for name, value in base.flat().items():
        if name != "device":
            options = [o for o in configuration.CHOICES.get(name, ()) if o != value]
            changed = options[0] if options else other[int if value is None else type(value)]
            seen.add(base.replace(**{name: changed}).identity())
    assert len(seen) == len(base.flat())


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert len(digest(None)) == 12


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A project with one profile, one preset and two arms."""
    (tmp_path / "experiments.yml").write_text(
        "profiles:\n  small: {seeds: [4, 5], epochs: 3, width: 8, sources: {folder: {epochs: 1, stories: 9}}}\n"
        "presets:\n  wide: {fusion: concat, width: 32}\n"
        "arms:\n  none: {}\n  gated: {fusion: gate, width: 12}\n"
    )
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_profile_source_preset_arm_and_overrides_win_in_this_order(plan):
    assert configure("small") == Config().replace(epochs=3, width=8)
    assert configure("small", source="folder") == Config().replace(source="folder", epochs=1, width=8, stories=9)
    assert configure("small", "gated") == Config().replace(epochs=3, fusion="gate", width=12)
    assert configure("small", "gated", width=20, epochs=5).flat()["width"] == 20
    assert configure("small", "none") == configure("small")
    assert configure("small", preset="wide") == Config().replace(epochs=3, width=32)
    assert configure("small", "gated", "wide") == Config().replace(epochs=3, fusion="gate", width=12)
    assert seeds("small") == [4, 5]


def test_unknown_profiles_and_arms_are_refused(plan):
    with pytest.raises(ConfigError, match=r"Unknown profile 'smal'. Did you mean 'small'\? Known: small"):
        configure("smal")
    with pytest.raises(ConfigError, match=r"Unknown arm 'gatde'. Did you mean 'gated'\? Known: gated, none"):
        configure("small", "gatde")
    with pytest.raises(ConfigError, match=r"Unknown preset 'wider'. Did you mean 'wide'\?"):
        configure("small", preset="wider")
    with pytest.raises(ConfigError, match=r"Did you mean 'epochs'\?"):
        configure("small", epoch=1)


def test_folders_follow_the_environment(plan, monkeypatch):
    assert project_root() == plan
    monkeypatch.delenv("STORYLIB_RUNS")
    assert configuration.runs_dir() == plan / "runs"
    monkeypatch.setenv("STORYLIB_RUNS", str(plan / "elsewhere"))
    assert configuration.runs_dir() == plan / "elsewhere"
    monkeypatch.setenv("STORYLIB_CACHE", str(plan / "c"))
    assert cache_dir("features", "x") == plan / "c" / "features" / "x"


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("STORYLIB_CACHE", cache_dir), ("STORYLIB_RUNS", runs_dir), ("STORYLIB_HOME", project_root)],
)
def test_the_environment_may_name_a_folder_at_home(monkeypatch, tmp_path, variable, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/elsewhere")
    assert folder() == tmp_path / "elsewhere"
    monkeypatch.setenv(variable, "~no-such-user/elsewhere")  # a folder of that name, and no error
    assert folder() == Path("~no-such-user/elsewhere")


def test_a_source_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match=r"'source' must be str, not \['a'\]"):
        configure("quick", source=["a"])


def test_the_checkout_is_the_root_where_there_is_one(monkeypatch):
    monkeypatch.delenv("STORYLIB_HOME", raising=False)
    assert (project_root() / "storylib" / "config.py").exists()


PLAN = experiments()


@pytest.mark.parametrize("profile", PLAN["profiles"])
@pytest.mark.parametrize("arm", [None, *PLAN["arms"]])
def test_every_published_profile_and_arm_is_valid(profile, arm):
    for source in ("storyworld", "african_storybook", *PLAN["profiles"][profile].get("sources", {})):
        assert configure(profile, arm, source=source).data.source == source
    assert len(set(seeds(profile))) == len(seeds(profile)) >= 3


def test_the_presets_have_the_settings_of_the_two_systems():
    default, a, b = (configure(preset=name).flat() for name in ("storyteller", "system_a", "system_b"))
    assert default == configure().flat()
    assert (a["fusion"], a["temporal"], a["next_text_weight"]) == ("cross_attention", "lstm", 0.0)
    assert (b["fusion"], b["temporal"], b["contrastive_weight"]) == ("concat", "lstm", 0.5)
    assert (b["temperature"], b["learned_temperature"], b["learning_rate"]) == (0.07, False, 1e-4)
    assert b["image_encoder"].startswith("resnet50 or ") and b["text_encoder"].startswith("distilbert or ")
    assert a["next_embedding"] == b["next_embedding"] == "linear"


def test_the_ablation_is_one_number():
    off, on = (configure("quick", arm).flat() for arm in ("contrastive-off", "contrastive-on"))
    assert {k: (off[k], on[k]) for k in on if on[k] != off[k]} == {"contrastive_weight": (0.0, 1.0)}


@pytest.mark.parametrize("name", ["epochs", "batch_size", "context", "width", "image_size", "text_length"])
def test_a_size_of_zero_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        Config().replace(**{name: 0})


@pytest.mark.parametrize(
    ("text", "name"),
    [("hf:a/b c", "hf_a_b_c"), ("../x", "x"), ("ok-1.5_b", "ok-1.5_b"), ("", "unnamed"), ("Čaj", "aj")],
)
def test_any_text_becomes_a_file_name(text, name):
    assert slug(text) == name
