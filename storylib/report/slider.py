"""A slider over the values of a sweep: plain SVG and a few lines of script; without script a static figure."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pandas as pd
from IPython.display import HTML

from storylib.experiments.studies import Factor
from storylib.experiments.sweeps import DIFFERENCE
from storylib.metrics.registry import METRICS
from storylib.report.style import BASELINE_COLOUR, INK, OFF, ON, describe, save, subplots


def slider(rows: pd.DataFrame, factor: Factor, label: str) -> HTML:
    """A panel per metric, from without the factor to the last value of a sweep, with intervals and baselines.

    rows: of one sweep, as by ``storylib.experiments.sweeps.sweep_frame``. label: of the slider.
    """
    panels = []
    for name, table in rows.groupby("metric", sort=False):
        metric, points = METRICS[str(name)], table.to_dict("records")
        figure, ((axis,),) = subplots(1, 1, (4.4, 3.0))
        texts = []
        for i, point in enumerate([points[0] | {"value": "0"}, *points]):
            value, *ends = (point[f"{'on' if i else 'off'}{end}"] for end in ("", "_low", "_high"))
            axis.plot([i, i], ends, color=ON if i else OFF, linewidth=2)
            axis.plot(i, value, "o", color=ON if i else OFF, gid=f"{name}-{i}")
            difference, low, high = (point[end] for end in DIFFERENCE)
            change = f"change {metric.interval_text(difference, low, high, '+')}, {point['verdict']}"
            texts.append((point["value"], f"{metric.interval_text(value, *ends)}; {change if i else factor.words[1]}"))
        axis.plot(0, points[0]["off"], "o", markersize=14, fillstyle="none", color=INK, gid=f"{name}-cursor")
        for level, title in ((points[0]["baseline_value"], points[0]["baseline"]), (points[0]["chance"], "chance")):
            axis.axhline(level, color=BASELINE_COLOUR, linestyle=":")
            axis.text(len(texts) - 0.6, level, f"{title}\n{metric.text(level)}", fontsize=9, va="bottom")
        axis.set_xticks(range(len(texts)), [value for value, _ in texts])
        axis.set_xlim(-0.5, len(texts) + 0.7)
        axis.set_title(metric.label(points[0]["candidates"]), fontsize=10)
        alt = f"{metric.title}: {texts[0][1]} at {texts[0][0]}, {texts[-1][1]} at {texts[-1][0]}."
        svg = save(describe(figure, alt, label), f"slider_{name}").svg
        data = html.escape(json.dumps(texts))
        panels.append(f'<div data-points="{data}">{svg[svg.index("<svg") :]}<output></output></div>')
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return HTML(page.replace("{label}", html.escape(label)).replace("{panels}", "".join(panels)))
