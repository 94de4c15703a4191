"""Near-duplicate pictures and texts, and the clusters of frames that they form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from storylib.data.inspection import Picture, inspect
from storylib.data.types import Frame, Story

# Chosen by eye on African Storybook. Of its 989 pairs of frames whose pictures are up to 8 bits apart one is no
# duplicate; at 10 bits apart, every second. The texts found are retellings of one story with other names.
DISTANCE = 8  # bits between the perceptual hashes of two pictures
SIMILARITY = 0.5  # Jaccard similarity of the sets of word pairs of two texts
WORDS = 10  # shorter texts are not compared: "Once upon a time there lived a girl" is no leak
BLOCK = 256  # pictures or texts compared with all others at a time, which bounds the memory

Links = list[tuple[int, int]]


def frame_clusters(stories: Sequence[Story], kinds: Sequence[str] = ("picture", "text")) -> np.ndarray:
    """Cluster of each frame, (frames,): near-duplicates of these kinds, and the frames of one group, share one."""
    frames = [f for s in stories for f in s.frames]
    links: Links = []
    first_of_group: dict[str, int] = {}
    ungrouped = []
    for index, owner in enumerate(story_indices(stories).tolist()):
        group = stories[owner].group
        if group is None:
            ungrouped.append(index)
        else:
            links.append((first_of_group.setdefault(group, index), index))
    # Grouped frames are not compared: the source knows better (Storyworld's texts share a grammar by design).
    for kind in kinds:
        pairs = near_duplicates([frames[i] for i in ungrouped], kind)
        links += [(ungrouped[a], ungrouped[b]) for a, b in pairs]
    return connected(links, len(frames))


def story_indices(stories: Sequence[Story]) -> np.ndarray:
    """Index of the story of each frame, (frames,)."""
    return np.repeat(np.arange(len(stories)), [len(s.frames) for s in stories])


def connected(links: Links | np.ndarray, size: int) -> np.ndarray:
    """Component number of each of ``size`` nodes, (size,), given undirected links between their indices."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def near_duplicates(frames: Sequence[Frame], kind: str) -> Links:
    """Index pairs that connect all frames whose pictures, or texts, are near-duplicates. kind: "picture" or "text"."""
    if kind == "picture":
        return near_duplicate_pictures(inspect([frame.image for frame in frames]))
    return near_duplicate_texts([frame.text for frame in frames])


def near_duplicate_pictures(pictures: Sequence[Picture]) -> Links:
    """Index pairs that connect all pictures whose perceptual hashes differ in at most DISTANCE bits.

    Equal hashes are linked only to the first of them, so a picture used a thousand times yields a thousand pairs.
    """
    first: dict[int, int] = {}
    links = []
    for index, picture in enumerate(pictures):
        if picture.perceptual is not None and first.setdefault(picture.perceptual, index) != index:
            links.append((first[picture.perceptual], index))
    hashes = np.array(list(first), dtype=np.uint64)
    for start in range(0, len(hashes), BLOCK):
        distances = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes)  # (BLOCK, N)
        rows, columns = np.nonzero(distances <= DISTANCE)
        links += _once(rows + start, columns, list(first.values()))
    return links


def near_duplicate_texts(texts: Sequence[str]) -> Links:
    """Index pairs that connect all texts whose sets of word pairs have a Jaccard similarity of at least SIMILARITY.

    Equal texts are linked only to the first of them. Texts of fewer than WORDS words are left out.
    """
    from scipy.sparse import csr_matrix

    first: dict[tuple[str, ...], int] = {}
    links = []
    for index, text in enumerate(texts):
        words = tuple(re.findall(r"\w+", text.lower()))
        if len(words) >= WORDS and first.setdefault(words, index) != index:
            links.append((first[words], index))
    numbers: dict[tuple[str, str], int] = {}  # of the word pairs
    entries: list[int] = []
    starts = [0]
    for words in first:
        entries += {numbers.setdefault(pair, len(numbers)) for pair in pairwise(words)}
        starts.append(len(entries))
    sizes = np.diff(starts)
    matrix = csr_matrix((np.ones(len(entries), dtype=np.int32), entries, starts), shape=(len(first), len(numbers)))
    for start in range(0, len(first), BLOCK):
        shared = (matrix[start : start + BLOCK] @ matrix.T).tocoo()  # number of word pairs that are in both texts
        rows, columns = shared.row + start, shared.col
        near = shared.data >= SIMILARITY * (sizes[rows] + sizes[columns] - shared.data)
        links += _once(rows[near], columns[near], list(first.values()))
    return links


def _once(rows: np.ndarray, columns: np.ndarray, indices: Sequence[int]) -> Links:
    """Each pair of different rows and columns once, as ``indices``."""
    return [(indices[a], indices[b]) for a, b in zip(rows.tolist(), columns.tolist(), strict=True) if a < b]
