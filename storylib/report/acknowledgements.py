"""Who made the stories: tables for the page of credits and for the chapter of the stories."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from storylib.data.types import Story
from storylib.report.pages import table
from storylib.sources import load_stories, one_line

TITLES = 50  # a row with more titles shows only the first five


def acknowledge(source: str, limit: int | None = None) -> str:
    """Markdown with the credits of the stories that ``load_stories`` gives for the same arguments.

    Titles and names come from strangers and are escaped.
    """
    rows = credits(load_stories(source, limit))[["stories", "titles", "credit", "licence"]].replace("", "not named")
    cells = [[escaped(str(cell)) for cell in row] for row in rows.to_numpy()]
    return table(("Stories", "Titles", "Credit", "Licence"), cells)


def credits(stories: Sequence[Story]) -> pd.DataFrame:
    """One row for each licence and credit: licence, credit, number of stories, their titles."""
    titles: dict[tuple[str, str], list[str]] = {}
    for story in stories:
        titles.setdefault((story.licence, story.credit), []).append(story.title)
    rows = []
    for (licence, credit), group in titles.items():
        shown = group if len(group) <= TITLES else [*group[:5], "…"]
        rows.append({"licence": licence, "credit": credit, "stories": len(group), "titles": "; ".join(shown)})
    return pd.DataFrame(rows)


def escaped(text: str) -> str:
    """Any text as one line of Markdown that shows exactly these characters."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", one_line(text))  # CommonMark allows to escape all ASCII punctuation
