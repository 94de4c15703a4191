"""Stories, frames and windows; the fingerprint of a data set; and the split that does not leak."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from storylib.config import unknown
from storylib.pictures import Picture, PictureLike, inspect, near_hashes, picture_digest


@dataclass(frozen=True)
class Frame:
    """One image and one text. Neighbours in a story have pages that differ by one."""

    image: PictureLike
    text: str
    page: int = 1
    attributes: dict[str, Any] | None = None  # what is true of the scene, where the source knows it


@dataclass(frozen=True)
class Story:
    """Ordered frames. A source that knows which stories belong together says so with ``group``.

    split: the part that the publishers of the data put the story in; ``split_stories`` keeps it held out.
    """

    id: str
    title: str
    frames: tuple[Frame, ...]
    licence: str = ""
    credit: str = ""
    group: str | None = None
    split: str | None = None  # "train", "validation" or "test"; None: the data has no official split


@dataclass(frozen=True)
class Window:
    """``context`` consecutive frames of a story, and the next one, which is to be predicted."""

    story: Story
    start: int
    length: int = 4

    @property
    def context(self) -> tuple[Frame, ...]:
        return self.story.frames[self.start : self.start + self.length]

    @property
    def target(self) -> Frame:
        return self.story.frames[self.start + self.length]


def windows(stories: Iterable[Story], context: int = 4) -> Iterator[Window]:
    """Every window of every story; none reaches across a page that is missing."""
    for story in stories:
        pages = [f.page for f in story.frames]
        for start in range(len(pages) - context):
            if pages[start + context] - pages[start] == context:
                yield Window(story, start, context)


def fingerprint(stories: Sequence[Story]) -> str:
    """Twelve hexadecimal digits that change with any word, picture, group, attribute or order of the data."""
    sha = hashlib.sha256()
    for story in stories:
        for frame in story.frames:
            truth = json.dumps(frame.attributes, sort_keys=True, default=str)
            picture = picture_digest(frame.image)
            official = [story.split] if story.split else []
            for part in (story.id, story.group or "", str(frame.page), frame.text, picture, truth, *official):
                sha.update(part.encode(errors="surrogatepass") + b"\0")
    return sha.hexdigest()[:12]


@dataclass(frozen=True)
class Splits:
    """Three lists of whole stories, and the group that each story belongs to."""

    train: list[Story]
    validation: list[Story]
    test: list[Story]
    groups: dict[str, int]
    left_out: list[Story] = field(default_factory=list)  # would leak into an official test or validation part

    def __iter__(self) -> Iterator[tuple[str, list[Story]]]:
        return iter((("train", self.train), ("validation", self.validation), ("test", self.test)))


def split_stories(
    stories: Sequence[Story],
    seed: int = 0,
    by: str = "group",
    validation: float = 0.15,
    test: float = 0.15,
    largest: float = 0.05,
) -> Splits:
    """Split by connected groups of near-duplicate stories, so that no test picture or text was seen in training.

    by: "group" keeps every group whole; "story" splits at random, as most published systems do, and leaks.
    largest: groups with more than this share of the stories go to training.
    With three groups or more no wanted part stays empty; with fewer, everything is training.

    Stories with an official ``split`` stay there, and only a part that has none is drawn from the rest. By "group", a
    story that repeats a page of an official test story is then in no part but in ``left_out``; by "story" it stays.
    """
    if by not in ("group", "story"):
        raise ValueError(unknown("way to split", by, ("group", "story")))
    if not stories:
        raise ValueError("there are no stories to split: the source gave none")
    twice = [name for name, count in Counter(s.id for s in stories).items() if count > 1]
    if twice:
        raise ValueError(f"two stories have the same id {twice[0]!r}; every story needs its own")
    owners = _owners(stories)  # (pages,)
    clusters = page_clusters(stories) if by == "group" else owners
    official = np.array([s.split if s.split in ("test", "validation") else "train" for s in stories])  # (stories,)
    leaks = np.zeros(len(stories), dtype=bool)
    for held, others in (("test", ["validation", "train"]), ("validation", ["train"])):
        seen = np.isin(clusters, clusters[official[owners] == held])
        leaks[owners[seen & np.isin(official[owners], others)]] = True
    groups = _joined(stories, owners[~leaks[owners]], clusters[~leaks[owners]])

    kept = [[s for s, where, leak in zip(stories, official, leaks, strict=True) if where == name and not leak]
            for name in ("test", "validation", "train")]  # fmt: skip
    parts, pool = {"test": kept[0], "validation": kept[1], "train": list[Story]()}, kept[2]
    members: dict[int, list[Story]] = defaultdict(list)
    for story in pool:
        members[groups[story.id]].append(story)
    shares = {name: share for name, share in (("test", test), ("validation", validation)) if share and not parts[name]}
    enough = len(members) > len(shares)
    wanted = {name: max(1, round(share * len(pool))) for name, share in shares.items()} if enough else {}
    for group in np.random.default_rng(seed).permutation(sorted(members)):
        size = len(members[group])
        fits = (p for p in wanted if size <= max(1, largest * len(pool)) and len(parts[p]) + size <= wanted[p])
        parts[next(fits, "train")].extend(members[group])
    position = {s.id: i for i, s in enumerate(stories)}
    ordered = {name: sorted(part, key=lambda s: position[s.id]) for name, part in parts.items()}
    left_out = [story for story, leak in zip(stories, leaks, strict=True) if leak]
    return Splits(ordered["train"], ordered["validation"], ordered["test"], groups, left_out)


def group_stories(stories: Sequence[Story]) -> dict[str, int]:
    """Number of the connected group of each story: linked by a near-duplicate picture, text, or the source itself."""
    return _joined(stories, _owners(stories), page_clusters(stories))


def page_clusters(stories: Sequence[Story]) -> np.ndarray:
    """Cluster number of each page, (pages,): pages share it if they show or say nearly the same, or through others.

    All pages of the stories that a source puts into one group share one too.
    """
    frames = [f for s in stories for f in s.frames]
    links: list[tuple[int, int]] = []
    known: dict[str, int] = {}
    open_ends = []
    for page, owner in enumerate(_owners(stories).tolist()):
        group = stories[owner].group
        if group is None:
            open_ends.append(page)
        else:
            links.append((known.setdefault(group, page), page))
    # A source that names its groups knows better than any hash (Storyworld's texts share a grammar by design).
    pictures = inspect([frames[i].image for i in open_ends])
    for a, b in near_duplicate_pictures(pictures) + near_duplicate_texts([frames[i].text for i in open_ends]):
        links.append((open_ends[a], open_ends[b]))
    return connected(links, len(frames))


def _owners(stories: Sequence[Story]) -> np.ndarray:
    """Index of the story that each page is in, (pages,)."""
    return np.repeat(np.arange(len(stories)), [len(s.frames) for s in stories])


def _joined(stories: Sequence[Story], owners: np.ndarray, clusters: np.ndarray) -> dict[str, int]:
    """Group number of each story: stories with pages in one cluster are one group. owners, clusters: (pages,)."""
    size = len(stories) + 1 + int(clusters.max(initial=0))
    labels = connected(np.stack([owners, clusters + len(stories)], axis=1), size)
    return {story.id: int(label) for story, label in zip(stories, labels, strict=False)}


def connected(links: Sequence[tuple[int, int]] | np.ndarray, size: int) -> np.ndarray:
    """Component number of each of ``size`` nodes, (size,), given undirected links between their indices."""
    rows, columns = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def near_duplicate_pictures(pictures: Sequence[Picture], distance: int = 8) -> list[tuple[int, int]]:
    """Index pairs that connect all pictures whose perceptual hashes differ in at most ``distance`` bits.

    Equal hashes are linked to the first of them only, so a picture used a thousand times costs a thousand pairs.
    The default was chosen by eye on African Storybook: of the 989 pairs of pages up to 8 bits one is false, at 10
    bits every second.
    """
    first: dict[int, int] = {}
    pairs = []
    for index, picture in enumerate(pictures):
        if picture.perceptual is not None and first.setdefault(picture.perceptual, index) != index:
            pairs.append((first[picture.perceptual], index))
    indices = list(first.values())
    return pairs + [(indices[a], indices[b]) for a, b in near_hashes(first, distance)]


def near_duplicate_texts(texts: Sequence[str], similarity: float = 0.5, words: int = 10) -> list[tuple[int, int]]:
    """Index pairs that connect all texts whose sets of word pairs have a Jaccard similarity of ``similarity`` or more.

    Exact, by prefix filtering (Xiao et al. 2008): with word pairs ordered from rare to common, and texts from short to
    long, two sets that similar share one of their first few. Texts of fewer than ``words`` words are left out: "Once
    upon a time there lived a girl" is no leak. The defaults were chosen by eye on African Storybook: they find the
    same tale told again with other names, and nothing else.
    """
    known: dict[str, int] = {}
    tokens = [tuple(known.setdefault(w, len(known)) for w in re.findall(r"\w+", text.lower())) for text in texts]
    first: dict[tuple[int, ...], int] = {}
    pairs = []
    for i, text in enumerate(tokens):
        if len(text) >= words and first.setdefault(text, i) != i:
            pairs.append((first[text], i))
    bags, once = _from_rare_to_common({i: text for text, i in first.items()}, len(known))
    index: dict[int, list[int]] = defaultdict(list)
    for i in sorted(bags, key=lambda i: len(bags[i])):
        rare, size = bags[i].tolist(), len(bags[i])
        bag = frozenset(rare)
        looked_up = rare[: size - math.ceil(similarity * size - 1e-9) + 1]
        kept = rare[: size - math.ceil(2 * similarity / (1 + similarity) * size - 1e-9) + 1]  # enough for longer texts
        for j in {j for pair in looked_up if pair >= once for j in index.get(pair, ())}:
            shared = len(bag.intersection(bags[j].tolist()))
            if shared >= similarity * (size + len(bags[j]) - shared):
                pairs.append((min(i, j), max(i, j)))
        for pair in kept:
            if pair >= once:  # what no other text has would only cost memory
                index[pair].append(i)
    return pairs


def _from_rare_to_common(texts: dict[int, tuple[int, ...]], words: int) -> tuple[dict[int, np.ndarray], int]:
    """The distinct word pairs of each text, as numbers that grow with how many texts have the pair; none twice.

    Arrays, (pairs,), because as tuples of strings those of 52,000 pages fill a gigabyte. Also the number of pairs that
    one text alone has: their numbers are below it.
    """
    rows = (np.array(text, np.int64) for text in texts.values())
    bags = [np.unique(row[:-1] * words + row[1:]) for row in rows]
    if not bags:
        return {}, 0
    pairs, inverse, uses = np.unique(np.concatenate(bags), return_inverse=True, return_counts=True)
    number = np.empty(len(pairs), np.int32)
    number[np.argsort(uses, kind="stable")] = np.arange(len(pairs), dtype=np.int32)
    ends = np.cumsum([len(bag) for bag in bags])[:-1]
    sorted_bags = (np.sort(bag) for bag in np.split(number[inverse], ends))
    return dict(zip(texts, sorted_bags, strict=True)), int((uses == 1).sum())


@dataclass(frozen=True)
class Reuse:
    """How the pages of a set of stories repeat each other."""

    stories: int
    pages: int
    shared: int  # pages whose picture is also in another story
    repeated: int  # of these, the pages whose picture an earlier story already had
    groups: int  # connected groups of stories that share a near-duplicate picture or text; a loner is a group too
    largest: int  # stories in the largest group


def picture_reuse(stories: Sequence[Story]) -> Reuse:
    """Count near-duplicate pictures across stories."""
    owners = _owners(stories)  # (pages,)
    seen: dict[int, set[int]] = defaultdict(set)
    repeated = 0
    clusters = connected(near_duplicate_pictures(inspect([f.image for s in stories for f in s.frames])), len(owners))
    for cluster, owner in zip(clusters.tolist(), owners.tolist(), strict=True):
        repeated += bool(seen[cluster] - {owner})
        seen[cluster].add(owner)
    shared = sum(len(seen[cluster]) > 1 for cluster in clusters.tolist())
    sizes = Counter(group_stories(stories).values())
    return Reuse(len(stories), len(owners), shared, repeated, len(sizes), max(sizes.values()))


@dataclass(frozen=True)
class Leakage:
    """How much of the test part was already seen in training."""

    stories: int  # test stories
    pages: int  # test pages
    picture_pages: int  # test pages with a near-duplicate picture in training
    text_pages: int  # test pages with a near-duplicate text in training
    leaked_pages: int  # either of the two
    leaked_stories: int  # test stories with at least one such page


def seen_pages(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Which test pages have a near-duplicate picture in training, and which such a text, (test pages,) bool each."""
    frames = [f for s in splits.train for f in s.frames]
    start = len(frames)  # frames from here on are the test part
    frames += [f for s in splits.test for f in s.frames]
    by_picture = _seen_before(near_duplicate_pictures(inspect([f.image for f in frames])), start, len(frames))
    by_text = _seen_before(near_duplicate_texts([f.text for f in frames]), start, len(frames))
    return by_picture, by_text


def leakage(splits: Splits) -> Leakage:
    """Test pages that repeat a training page; compare ``split_stories(by="story")`` with the default."""
    owners = _owners(splits.test)
    by_picture, by_text = seen_pages(splits)
    leaked = by_picture | by_text
    return Leakage(
        stories=len(splits.test),
        pages=len(owners),
        picture_pages=int(by_picture.sum()),
        text_pages=int(by_text.sum()),
        leaked_pages=int(leaked.sum()),
        leaked_stories=len(set(owners[leaked].tolist())),
    )


def _seen_before(links: Sequence[tuple[int, int]], start: int, size: int) -> np.ndarray:
    """Which nodes from ``start`` on are connected to one before it, (size - start,) bool."""
    labels = connected(links, size)
    return np.isin(labels[start:], labels[:start])
