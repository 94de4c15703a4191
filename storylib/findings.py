"""What the published records say, in sentences that their verdicts choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storylib.ablation import as_published, load_published
from storylib.comparison import Comparison, identical
from storylib.presets import load_presets
from storylib.protocol import METRICS
from storylib.runs import RunError, origin
from storylib.sweeps import load_sweeps, sweep_sentences

VERDICTS = {"better": "that is a gain", "worse": "that is a loss", "no difference": "no difference can be told"}


@dataclass
class Records:
    """Published records by kind and source; for those that there are not, the sentence that says how to make them."""

    found: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Sequence[str], profile: str, **more: Callable[[str, str], dict[str, Any]]) -> Records:
        """more: other kinds of records by name, and what loads them."""
        records = cls()
        kinds = {"sweeps": load_sweeps, "ablation": load_published, "presets": load_presets}
        for kind, load in (kinds | more).items():
            for source in sources:
                try:
                    records.found[kind, source] = load(source, profile)
                except RunError as error:
                    records.missing[kind, source] = str(error)
        return records

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The records of a kind by source."""
        return {source: record for (k, source), record in self.found.items() if k == kind}

    def losses(self, metrics: Sequence[str], *point: str) -> str:
        """A list in Markdown: ``loss_in_words`` of each metric on each source."""
        lines = [f"- {loss_in_words(record, metric, *point)} *({source.replace('_', ' ')})*"
                 for source, record in self.all("sweeps").items() for metric in metrics]  # fmt: skip
        return "\n".join(lines)

    def settings(self, metric: str) -> str:
        """A list in Markdown: in how many settings of the sweeps the loss makes a difference, on each source."""
        lines = [f"- {' '.join(sweep_sentences(record, metric))} *({source.replace('_', ' ')})*"
                 for source, record in self.all("sweeps").items()]  # fmt: skip
        return "\n".join(lines)

    def comparisons(self, *groups: str) -> dict[str, Comparison]:
        """What the loss changes in some groups of metrics, with the decoders trained too, by source."""
        return {source: as_published(record).comparison.of(*groups) for source, record in self.all("ablation").items()}

    def changes(self, *groups: str) -> str:
        """A list in Markdown: ``comparisons``, one sentence a group."""
        lines = [f"- {sentence} *({source.replace('_', ' ')})*"
                 for source, found in self.comparisons(*groups).items() for sentence in found.sentences()]  # fmt: skip
        return "\n".join(lines)

    def presets(self, metrics: Sequence[str]) -> str:
        """A list in Markdown: ``presets_in_words`` on each source."""
        lines = []
        for source, record in self.all("presets").items():
            said = presets_in_words(record, metrics)
            lines += [f"- **{preset}** ({source.replace('_', ' ')}): {words}" for preset, words in said.items()]
        return "\n".join(lines)

    def origins(self) -> str:
        """A list in Markdown: each record's mark, and how those are made that there are not."""
        lines = [f"- {kind}: {origin(record)}" for (kind, _), record in self.found.items()]
        return "\n".join(lines + [f"- {kind}: {sentence}" for (kind, _), sentence in self.missing.items()])


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
            found = [f"*{METRICS[m].title}*" for m, entry in entries.items() if entry["verdict"] == verdict]
            parts += [f"{words} {len(found)} ({', '.join(found)})"] if found else []
        said[name] = f"Of {len(entries)} metrics it is {'; '.join(parts)}."
    return said
