"""storylib: predict the next frame of an illustrated story, and measure honestly what a contrastive loss adds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are imported when first used: reading a configuration must not cost the import of torch.
_EXPORTS = {
    "config": ("Config", "ConfigError", "configure", "seeds"),
    "stories": ("Frame", "Splits", "Story", "Window", "leakage", "picture_reuse", "split_stories", "windows"),
    "sources": ("SourceError", "credits", "load_stories"),
    "costs": ("reading_costs",),
    "encoders": ("EncoderError",),
    "floors": ("FLOOR_TITLES",),
    "features": ("Features", "encode"),
    "attributes": ("attribute_accuracy", "one_of_each_plot", "scene_truth"),
    "prediction": ("NextFrame", "PredictionError", "Storyteller"),
    "leaks": ("effect_in_words", "split_report", "trained_effect", "trained_record", "twins"),
    "scores": ("Scores", "in_words"),
    "comparison": ("Comparison", "compare"),
    "ablation": ("Ablation", "load_ablation"),
    "sweeps": ("load_sweeps", "sweep_sentences", "sweep_tables"),
    "presets": ("load_presets", "preset_table"),
    "findings": ("Records", "loss_in_words", "presets_in_words"),
    "difficulty": ("reasons", "story_ease", "why"),
    "runs": (
        "Data",
        "Run",
        "RunError",
        "describe",
        "evaluate_run",
        "load_run",
        "origin",
        "pooled_metrics",
        "prepare",
        "train",
    ),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}
_MODULES = ("audit", "cost_figures", "costs", "plots")  # modules that are used by their own name
__all__ = [*sorted(_HOME), *_MODULES]

if TYPE_CHECKING:
    from storylib import audit as audit
    from storylib import cost_figures as cost_figures
    from storylib import costs as costs
    from storylib import plots as plots
    from storylib.config import Config as Config
    from storylib.config import configure as configure


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"storylib.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"storylib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'storylib' has no attribute {name!r}")
