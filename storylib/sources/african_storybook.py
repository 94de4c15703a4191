"""Illustrated children's stories of the African Storybook Project (https://africanstorybook.org), CC-BY and CC-BY-NC.

Texts come from https://github.com/global-asp/asp-source, pictures from https://github.com/global-asp/asp-imagebank. ::

    asp-source/<language>/NNNN_slug.md       title; a line ``##`` starts each page; the last block is licence metadata
    asp-imagebank/README.md                  a table of the illustrators of each story
    asp-imagebank/medium/NNNN/PP.jpg         01 is the cover, page i is picture i + 1, often followed by a back page

A frame is a page with a text; its ``number`` is that of the page.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from storylib.config import environment_folder, project_root
from storylib.data.download import WrongFileError, github_archive
from storylib.data.store import cache_entry, file_sha256, read_sums
from storylib.data.types import Frame, Story
from storylib.sources._checks import SourceError, check_known, leave_out, log, read_utf8, report_empty

TEXTS = ("global-asp/asp-source", "99e022369a980bd52bce8c6f86d5f24e9a4ada9d")  # repository, commit
PICTURES = ("global-asp/asp-imagebank", "a56e6dbe7aeeb8ea3e53d9941664416e2e7356ad")
DIGESTS = Path(__file__).with_suffix(".sha256")  # of the English texts at that commit, in the format of sha256sum

# Stories with the right number of pictures that nevertheless lack one inside and have a back page instead, identified
# by eye among the 28 whose last picture repeats an earlier one. Value: the page from which pictures and texts disagree.
OUT_OF_STEP = {"0013": 11, "0024": 8, "0031": 5, "0032": 9, "0230": 5, "0250": 8}

OFFLINE = (
    "Without network, copy asp-source and asp-imagebank into one folder "
    "and set STORYLIB_AFRICAN_STORYBOOK to it, or use the source 'storyworld', which needs no download."
)
EXPECTED = (
    "Expected asp-source/<language>/NNNN_title.md and asp-imagebank/medium/NNNN/PP.jpg. Set "
    "STORYLIB_AFRICAN_STORYBOOK to a folder with both, or unset it for the copy beside the project or a download."
)


def load(
    limit: int | None = None, root: str | os.PathLike | None = None, language: str = "en", strict: bool = False
) -> list[Story]:
    """Stories in the order of their numbers, without covers, back pages and pages that have no text.

    root: a folder that holds asp-source and asp-imagebank; by default STORYLIB_AFRICAN_STORYBOOK, else
    ../shared/data/african_storybook beside the project, else a download of about a gigabyte into the cache.
    language: a folder name of asp-source. strict: raise an error for a text that is missing or cannot be read. Stories
    whose pictures do not match their pages are dropped in any case.
    """
    folder = Path(root).expanduser() if root is not None else find_root()
    texts, pictures = _check_layout(folder, language)
    stories: list[Story] = []
    dropped: list[str] = []
    empty: list[str] = []
    for path in texts:
        if len(stories) == limit:
            break
        try:
            story = read_story(path, pictures / path.name[:4])
        except SourceError as error:
            leave_out(str(error), strict)
            continue
        if isinstance(story, Story):
            empty += [f"{path}, page {frame.number}" for frame in story.frames if not frame.text]
            stories.append(replace(story, frames=tuple(frame for frame in story.frames if frame.text)))
        else:
            dropped.append(f"{path.stem}: {story}")
            log.info("dropped %s", dropped[-1])
    report_empty(empty, strict)
    if dropped:
        log.warning("%d of %d stories were dropped; the reasons are logged at level INFO", len(dropped), len(texts))
    if not stories:
        first = f" The first was dropped: {dropped[0]}." if dropped else ""
        raise SourceError(f"{folder} holds no story in {language!r} whose pictures match its pages.{first}")
    return stories


def read_story(path: Path, pictures: Path) -> Story | str:
    """A story with all its pages, or the reason why it cannot be used. path: its text. pictures: their folder."""
    title, *pages = re.split(r"^##[ \t]*$", read_utf8(path), flags=re.MULTILINE)
    if len(pages) < 2:
        return "the text has no pages"
    facts = dict(re.findall(r"^\* ([^:\n]+):[ \t]*(.*)$", pages.pop(), flags=re.MULTILINE))
    if "License" not in facts:
        return "the last block names no licence"
    files = sorted(pictures.glob("[0-9]*.jpg"))
    if [file.stem for file in files] != [f"{number:02d}" for number in range(1, len(files) + 1)]:
        return "a picture number is missing"
    if len(files) - len(pages) not in (1, 2):  # a cover, and often a back page
        return f"{len(files)} pictures do not match {len(pages)} pages and a cover"
    if path.name[:4] in OUT_OF_STEP:
        return f"pictures and texts disagree from about page {OUT_OF_STEP[path.name[:4]]}"
    texts = enumerate(map(plain, pages), 1)
    frames = tuple(Frame(files[number], text, number) for number, text in texts)
    if not any(frame.text for frame in frames):
        return "no page has a text"
    licence = facts.pop("License").strip("[] ").replace("CC BY", "CC-BY")
    credit = "; ".join(f"{role}: {names.strip()}" for role, names in facts.items() if names.strip())
    return Story(path.stem, plain(title), frames, licence, f"{credit}; African Storybook Project")


def plain(text: str) -> str:
    """One line of text without Markdown: line breaks joined, emphasis, escapes and heading signs removed."""
    text = re.sub(r"^#+[ \t]+", "", text.strip(), flags=re.MULTILINE)
    text = re.sub(r"(?<![\w\\])([*_]{1,3})(?=\S)([^*_]+)(?<=[^\s\\])\1(?!\w)", r"\2", text)
    text = re.sub(r"\\([\\`*_{}\[\]()#+\-.!<>|~])", r"\1", text)
    return " ".join(text.split())


def find_root() -> Path:
    """The folder of the stories: the one that the environment names, the one beside the project, or a download."""
    if folder := environment_folder("STORYLIB_AFRICAN_STORYBOOK"):
        return folder
    beside = project_root().parent / "shared" / "data" / "african_storybook"
    return beside if beside.is_dir() else download()


def download() -> Path:
    """The two pinned archives, unpacked into the cache; the texts are compared with ``DIGESTS``."""
    texts, pictures = r"[a-z-]+/\d{4}.*\.md", r"README\.md|medium/\d{4}/\d{2}\.jpg"  # the files that are unpacked
    root = cache_entry("african_storybook", "unpacked", [TEXTS, texts, PICTURES, pictures], "data.download")
    github_archive(*TEXTS, root / "asp-source", texts, check=_check_texts, offline=OFFLINE)
    github_archive(*PICTURES, root / "asp-imagebank", pictures, offline=OFFLINE)
    return root


def _check_texts(folder: Path) -> None:
    for name, sha256 in read_sums(DIGESTS).items():
        if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
            raise WrongFileError(f"the text {name} differs from the pinned one or is missing.")


def _check_layout(root: Path, language: str) -> tuple[list[Path], Path]:
    """The text files of a language and the folder of all pictures. Raises SourceError for any other layout."""
    texts, pictures = root / "asp-source", root / "asp-imagebank" / "medium"
    for folder in (root, texts, pictures):
        if not folder.is_dir():
            raise SourceError(f"The folder {folder} does not exist. {EXPECTED}")
    files = sorted(texts.glob("*/[0-9][0-9][0-9][0-9]*.md"))
    if not files:
        raise SourceError(f"{texts} holds no story text. {EXPECTED}")
    check_known("language", [language], {path.parent.name for path in files}, f"{texts}: ")
    return [path for path in files if path.parent.name == language], pictures
