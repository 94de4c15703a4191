"""Whom the stories of a book are owed to, as a part of its page of credits; see the Snakefile.

python -m storylib.sources.acknowledgements african_storybook credits.md --profile quick
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from storylib.config import ConfigError, configure
from storylib.download import DownloadError
from storylib.pictures import PictureError, write_atomically
from storylib.sources import SourceError, african_storybook, credits, load_stories, name_and_options, one_line

OTHERS = """
Real stories, those of the African Storybook, are credited here, each by its authors, illustrators and translators, when
the book is built from them. They are downloaded once, about a gigabyte:

    make book SOURCE=african_storybook

Without network, set `STORYLIB_AFRICAN_STORYBOOK` to a folder that holds `asp-source` and `asp-imagebank`.
"""
STORYWORLD = f"""\
This book was built from Storyworld: the code of this project draws its pictures and writes its texts from a seed. No
one else has a part in them, and they are free for any use (CC0 1.0).
{OTHERS}"""
ABSENT = """\
The stories of this book, `{source}`, are not on the machine that made this page, so that it cannot name those who made
them: {reason}
{others}"""
AFRICAN_STORYBOOK = """\
The stories come from the [African Storybook](https://africanstorybook.org), whose authors, illustrators and translators
gave them to everybody under [Creative Commons](https://creativecommons.org/licenses/) licences. The texts are those of
[{texts}](https://github.com/{texts}), the pictures those of
[{pictures}](https://github.com/{pictures}). Texts were cut into pages and freed of Markdown signs, pictures scaled to
the size that they are shown in; nothing else was changed.

{stories}

## Illustrators

{illustrators}
"""
ROLES = ("Text", "Illustration", "Adaptation", "Translated By", "Translation")


def acknowledge(source: str, limit: int | None = None) -> str:
    """Markdown that credits everybody who made the stories that ``load_stories`` gives for the same arguments.

    Where they cannot be had, it says so, and how to get them. Titles and names are strangers' text, so every sign in
    them that means something in Markdown or HTML is escaped. Raises SourceError for a source that does not exist.
    """
    name, options = name_and_options(source)
    try:
        if name == "storyworld":
            return STORYWORLD
        if name == "african_storybook":
            return _african_storybook(limit, **options)
        owed = credits(load_stories(source, limit)).to_dict("records")
        return table(["Stories", "Titles", "Credit", "Licence"], [
            [row["stories"], row["titles"], row["credit"] or "not named", row["licence"] or "not named"] for row in owed
        ])  # fmt: skip
    except (SourceError, DownloadError, PictureError) as error:
        return ABSENT.format(source=one_line(source).replace("`", "'"), reason=escaped(str(error)), others=OTHERS)


def _african_storybook(limit: int | None, root: str | None = None, language: str = "en", **options: Any) -> str:
    """Names come from each story's licence block; where it names no illustrator, from the table of the image bank."""
    folder = Path(root).expanduser() if root is not None else african_storybook.find_root()
    bank = read_illustrators(folder / "asp-imagebank" / "README.md")
    rows: list[list[str]] = []
    drawn: Counter[str] = Counter()
    for story in load_stories("african_storybook", limit, root=folder, language=language, **options):
        _, _, facts = african_storybook.read_text(folder / "asp-source" / language / f"{story.id}.md")
        text, picture, adaptation, *translation = (facts.get(role, "").strip() for role in ROLES)
        picture = picture or bank.get(story.id[:4], "")
        drawn.update({name.strip() for name in re.split(r",| and ", picture) if name.strip()})
        rows.append([story.title, text, picture, adaptation, ", ".join(filter(None, translation)), story.licence])
    names = ", ".join(f"{escaped(name)} ({count})" for name, count in sorted(drawn.items()))
    return AFRICAN_STORYBOOK.format(
        texts=african_storybook.TEXTS[0],
        pictures=african_storybook.PICTURES[0],
        stories=table(["Story", "Text", "Illustration", "Adaptation", "Translation", "Licence"], rows),
        illustrators=f"{names}.",
    )


def read_illustrators(path: Path) -> dict[str, str]:
    """Story number to illustrators, from the table in the image bank's README; empty if there is none."""
    if not path.is_file():
        return {}
    rows = (line.split(" | ") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {
        row[0].strip(): african_storybook.plain(row[-2])
        for row in rows
        if len(row) >= 4 and re.fullmatch(r"\d{4}", row[0].strip())
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; the cells of its rows are escaped."""
    lines = [head, ["---"] * len(head), *([escaped(str(cell)) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Any text as one line of Markdown that shows exactly these signs; CommonMark lets every ASCII sign be escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", one_line(text))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m storylib.sources.acknowledgements", description=__doc__)
    parser.add_argument("source", help="as for load_stories")
    parser.add_argument("page", type=Path, help="the file to write")
    parser.add_argument("--profile", default="quick", help="says how many stories of the source the book has")
    options = parser.parse_args(arguments)
    try:
        limit = configure(options.profile, source=options.source).data.stories
        write_atomically(options.page, acknowledge(options.source, limit))
    except (ConfigError, SourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
