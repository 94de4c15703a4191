"""Near-duplicates: compared with all pairs, by brute force."""

from __future__ import annotations

import itertools
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from storylib.data import duplicates
from storylib.data.duplicates import connected, near_duplicate_pictures, near_duplicate_texts
from storylib.data.inspection import Picture

WORDS = "sun moon rain goat tree hill river stone bread drum".split()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 63))))
def test_near_duplicate_pictures_connect_like_all_pairs(base, changes):
    hashes = base + [base[i % len(base)] ^ (1 << bit) for i, bit in changes if base]
    pictures = [Picture(value) for value in hashes] + [Picture(None)] * 2
    all_pairs = [
        (i, j) for i, j in itertools.combinations(range(len(hashes)), 2) if (hashes[i] ^ hashes[j]).bit_count() <= 8
    ]
    with mock.patch.object(duplicates, "BLOCK", 3):
        links = near_duplicate_pictures(pictures)
    got, expected = (connected(links, len(pictures)) for links in (links, all_pairs))
    assert partition(got) == partition(expected)


def partition(labels) -> set[frozenset[int]]:
    return {frozenset(i for i, label in enumerate(labels) if label == wanted) for wanted in labels}


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), max_size=10),
    st.sampled_from([0.3, 0.5, 0.55, 0.7, 1.0]),
    st.integers(2, 5),
)
def test_near_duplicate_texts_connect_like_all_pairs(texts, similarity, words):
    def bag(text):
        return set(itertools.pairwise(text))

    def alike(a, b):
        if min(len(a), len(b)) < words:
            return False
        return len(bag(a) & bag(b)) >= similarity * len(bag(a) | bag(b))

    expected = [(i, j) for i, j in itertools.combinations(range(len(texts)), 2) if alike(texts[i], texts[j])]
    with mock.patch.multiple(duplicates, SIMILARITY=similarity, WORDS=words, BLOCK=3):
        links = near_duplicate_texts([" ".join(t).title() + "!" for t in texts])
    assert partition(connected(links, len(texts))) == partition(connected(expected, len(texts)))


def test_texts_of_a_retold_story_are_linked_and_formulas_are_not():
    texts = [
        "Once upon a time there lived a king.",
        "Once upon a time there lived a hen.",
        "The fox ran down to the river and drank until its belly was as round as a drum.",
        "Then the fox ran down to the river and drank until its belly was round as a drum!",
        "The fox slept.",
        "The fox slept.",
    ]
    assert near_duplicate_texts(texts) == [(2, 3)]
