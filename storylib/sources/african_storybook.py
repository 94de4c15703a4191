"""Illustrated children's stories of the African Storybook Project (https://africanstorybook.org), CC-BY and CC-BY-NC.

Texts come from https://github.com/global-asp/asp-source, pictures from https://github.com/global-asp/asp-imagebank:

    asp-source/<language>/NNNN_slug.md        title; a line ``##`` starts each page; the last block is licence metadata
    asp-imagebank/README.md                   a table of the illustrators of each story
    asp-imagebank/medium/NNNN/PP.jpg          01 is the cover, page i is picture i + 1, often a back page at the end
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from storylib.config import cache_dir, project_root, unknown
from storylib.download import GITHUB, WrongFileError, file_sha256, github_archive, read_sums
from storylib.sources import SourceError, leave_out
from storylib.stories import Frame, Story

log = logging.getLogger(__name__)

TEXTS = ("global-asp/asp-source", "99e022369a980bd52bce8c6f86d5f24e9a4ada9d")
PICTURES = ("global-asp/asp-imagebank", "a56e6dbe7aeeb8ea3e53d9941664416e2e7356ad")
DIGESTS = Path(__file__).with_suffix(".sha256")  # of the English texts at that commit, in the format of sha256sum
LICENCES = ("CC-BY", "CC-BY-NC", "CC-BY-NC-SA")

# Stories that have the right number of pictures, yet lack one inside and have a back page instead: seen by eye among
# the 28 whose last picture repeats an earlier one. The number: the page from which pictures and texts are out of step.
OUT_OF_STEP = {"0013": 11, "0024": 8, "0031": 5, "0032": 9, "0230": 5, "0250": 8}

OFFLINE = (
    "Without network, copy asp-source and asp-imagebank into one folder "
    "and set STORYLIB_AFRICAN_STORYBOOK to it, or use the source 'storyworld', which needs no download."
)


def load(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    language: str = "en",
    licences: Sequence[str] | str | None = None,
    strict: bool = False,
) -> list[Story]:
    """Stories in the order of their numbers, without covers, back pages and pages that have no text.

    root: a folder that holds asp-source and asp-imagebank; by default STORYLIB_AFRICAN_STORYBOOK, else
    ../shared/data/african_storybook beside the project, else a download of about a gigabyte into the cache.
    language: a folder name of asp-source. licences: only these, such as ("CC-BY",) or "CC-BY,CC-BY-NC".
    strict: a text that cannot be read is an error; that pictures do not fit its pages never is.
    """
    licences = licences.split(",") if isinstance(licences, str) else licences
    for licence in licences or ():
        if licence not in LICENCES:
            raise SourceError(unknown("licence", licence, LICENCES))
    folder = Path(root).expanduser() if root is not None else find_root()
    texts, pictures = _check_layout(folder, language)
    stories: list[Story] = []
    dropped: list[str] = []
    for path in texts:
        if limit is not None and len(stories) >= limit:
            break
        try:
            story = read_story(path, pictures / path.name[:4])
        except SourceError as error:
            leave_out(str(error), strict)
            continue
        if isinstance(story, str):
            dropped.append(f"{path.stem}: {story}")
        elif not licences or story.licence in licences:
            stories.append(story)
    for line in dropped:
        log.info("dropped %s", line)
    if dropped:
        log.warning("%d of %d stories were dropped; the reasons are logged at level INFO", len(dropped), len(texts))
    if not stories:
        why = f" The first was dropped: {dropped[0]}." if dropped else ""
        only = f" under the licences {', '.join(licences)}" if licences else ""
        raise SourceError(f"{folder} holds no story in {language!r}{only} whose pictures fit its pages.{why}")
    return stories


def read_story(path: Path, pictures: Path) -> Story | str:
    """One story, or the reason why it cannot be used. path: its text; pictures: the folder of its pictures."""
    title, pages, facts = read_text(path)
    if not pages:
        return "the text is not in pages"
    if "License" not in facts:
        return "the last block names no licence"
    if not pictures.is_dir():
        return "there are no pictures"
    files = sorted(pictures.glob("*.jpg"))
    if [f.stem for f in files] != [f"{i:02d}" for i in range(1, len(files) + 1)]:
        return "a picture number is missing"
    if len(files) - len(pages) not in (1, 2):  # a cover, and often a back page
        return f"{len(files)} pictures do not fit {len(pages)} pages and a cover"
    if path.name[:4] in OUT_OF_STEP:
        return f"pictures and texts are out of step from about page {OUT_OF_STEP[path.name[:4]]}"
    texts = [plain(page) for page in pages]
    frames = tuple(Frame(files[i], text, page=i) for i, text in enumerate(texts, 1) if text)
    if not frames:
        return "no page has a text"
    licence = _licence(facts.pop("License"))
    credit = "; ".join(f"{role}: {who.strip()}" for role, who in facts.items() if who.strip())
    return Story(path.stem, plain(title), frames, licence, f"{credit}; African Storybook Project")


def read_text(path: Path) -> tuple[str, list[str], dict[str, str]]:
    """Title, pages (maybe none) and the last block's facts, such as License, Text and Illustration."""
    try:
        title, *pages = re.split(r"^##[ \t]*$", path.read_text(encoding="utf-8-sig"), flags=re.MULTILINE)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: save it as UTF-8, or take a whole copy.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give yourself permission (chmod u+r).") from error
    about = dict(re.findall(r"^\* ([^:\n]+):[ \t]*(.*)$", pages[-1], flags=re.MULTILINE)) if pages else {}
    return title, pages[:-1], about


def _licence(text: str) -> str:
    return text.strip("[] ").replace("CC BY", "CC-BY")


def plain(text: str) -> str:
    """One line of text without Markdown: line breaks joined, emphasis, escapes and heading signs removed."""
    text = re.sub(r"^#+[ \t]+", "", text.strip(), flags=re.MULTILINE)
    text = re.sub(r"(?<![\w\\])([*_]{1,3})(?=\S)([^*_]+)(?<=[^\s\\])\1(?!\w)", r"\2", text)
    text = re.sub(r"\\([\\`*_{}\[\]()#+\-.!<>|~])", r"\1", text)
    return " ".join(text.split())


def find_root() -> Path:
    """The folder of the stories: named by the environment, beside the project, or downloaded."""
    named = os.environ.get("STORYLIB_AFRICAN_STORYBOOK")
    if named:
        return Path(named).expanduser()
    beside = project_root().parent / "shared" / "data" / "african_storybook"
    return beside if beside.is_dir() else download()


def download(base: str = GITHUB, digests: Path = DIGESTS) -> Path:
    """The two pinned archives, unpacked into the cache; the texts are compared with ``digests``.

    base: where GitHub, or a mirror of it, is.
    """
    root = cache_dir("african_storybook", f"{TEXTS[1][:8]}-{PICTURES[1][:8]}")
    check = functools.partial(_check_texts, digests=digests)
    github_archive(*TEXTS, root / "asp-source", r"[a-z-]+/\d{4}.*\.md", check=check, otherwise=OFFLINE, base=base)
    pictures = r"README\.md|medium/\d{4}/\d{2}\.jpg"
    github_archive(*PICTURES, root / "asp-imagebank", pictures, otherwise=OFFLINE, base=base)
    return root


def _check_texts(folder: Path, digests: Path) -> None:
    for name, digest in read_sums(digests).items():
        if not (folder / name).is_file():
            raise WrongFileError(f"the text {name} is missing.")
        if file_sha256(folder / name) != digest:
            raise WrongFileError(f"the text {name} differs from the one that was pinned.")


def _check_layout(root: Path, language: str) -> tuple[list[Path], Path]:
    """The text files of a language and the folder of all pictures. Raises SourceError for any other layout."""
    wanted = (
        "Expected asp-source/<language>/NNNN_title.md and asp-imagebank/medium/NNNN/PP.jpg. Set "
        "STORYLIB_AFRICAN_STORYBOOK to a folder with both, or unset it for the copy beside the project or a download."
    )
    if not root.is_dir():
        raise SourceError(f"The folder {root} does not exist. {wanted}")
    if not any(root.iterdir()):
        raise SourceError(f"The folder {root} is empty. {wanted}")
    texts, pictures = root / "asp-source", root / "asp-imagebank" / "medium"
    missing = [part.relative_to(root) for part in (texts, pictures) if not part.is_dir()]
    if missing:
        raise SourceError(f"{root} is not a copy of the African Storybook: {missing[0]} is missing. {wanted}")
    languages = {f.name: sorted(f.glob("[0-9][0-9][0-9][0-9]*.md")) for f in sorted(texts.iterdir()) if f.is_dir()}
    if not any(languages.values()):
        raise SourceError(f"{texts} holds no story text. {wanted}")
    if not languages.get(language):
        raise SourceError(f"{texts}: {unknown('language', language, [k for k, v in languages.items() if v])}")
    return languages[language], pictures
