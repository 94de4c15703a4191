"""What the published records say, in sentences that their verdicts choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storylib.comparison import identical
from storylib.protocol import METRICS

VERDICTS = {"better": "that is a gain", "worse": "that is a loss", "no difference": "no difference can be told"}


def loss_in_words(record: Mapping[str, Any], metric: str, sweep: str = "weight", value: str = "1") -> str:
    """One sentence of a sweep's point: a metric without the loss, with it, and what needs no training at all."""
    point = next((p for p in record["points"] if (p["sweep"], p["value"]) == (sweep, value)), None)
    entry = (point or {}).get("metrics", {}).get(metric)
    if entry is None:
        return f"{METRICS[metric].title.capitalize()}: not measured."
    digits, title = METRICS[metric].digits, METRICS[metric].title
    off, on = (f"{entry[arm]['value']:.{digits}f}" for arm in ("off", "on"))
    if identical(entry):
        return f"**{title.capitalize()}** is {on} with the loss and without it, in every story alike."
    difference, low, high = (f"{entry[key]:+.{digits}f}" for key in ("difference", "low", "high"))
    said = f"**{title.capitalize()}** is {off} without the loss and {on} with it: {difference} "
    said += f"(95 % interval {low} to {high}), {VERDICTS[entry['verdict']]}."
    floors = {k: v for k, v in entry["floors"].items() if k not in ("chance", "best of context")}
    if floors:
        best = max(floors, key=lambda name: METRICS[metric].merit(floors[name]))
        said += f" The floor *{best}* reaches {floors[best]:.{digits}f}."
    return said


def presets_in_words(record: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, str]:
    """For each preset, which of some metrics are better than their best floor, which worse, and which neither."""
    said = {}
    for name, told in record["presets"].items():
        entries = {m: told["metrics"][m] for m in metrics if m in told["metrics"]}
        parts = []
        for verdict, words in (("better", "above its floors in"), ("worse", "below them in"),
                               ("no difference", "not told from them in")):  # fmt: skip
            found = [METRICS[m].title for m, entry in entries.items() if entry["verdict"] == verdict]
            parts += [f"{words} {len(found)} ({', '.join(found)})"] if found else []
        said[name] = f"Of {len(entries)} metrics it is {'; '.join(parts)}."
    return said
