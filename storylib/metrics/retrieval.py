"""Where the right page stands among its candidates; block by block, so that 50,000 x 50,000 never sits in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def ranks(scores: Tensor, target: Tensor, candidates: Tensor) -> Tensor:
    """Rank of each query's target among its candidates, 1 is best; ties share the mean rank.

    scores: (Q, C). target: (Q,) column of the target. candidates: (Q, C) bool; the target always counts as one.
    Exact copies of the target count as the target: the caller leaves them out, so that a copy is neither a rival nor
    a second chance. Returns (Q,) float. ``Candidates`` gives the same without (Q, C) masks.
    """
    own = scores.gather(1, target[:, None])
    rivals = candidates.clone()
    rivals.scatter_(1, target[:, None], False)
    better = ((scores > own) & rivals).sum(1)
    tied = ((scores == own) & rivals).sum(1)
    return 1 + better + tied / 2


def candidate_counts(target: Tensor, candidates: Tensor) -> Tensor:
    """(Q,) how many candidates each query has, its target among them."""
    return candidates.clone().scatter_(1, target[:, None], True).sum(1)


@dataclass(frozen=True)
class Candidates:
    """What each of Q queries chooses among, said by its few exceptions: C columns less those that are no rivals.

    same: (Q, S) columns of the target and its exact copies. They count as one: the best of them is scored, and none
    is a rival. aside: (Q, A) columns that are no rivals, the target and its copies among them. within: (Q, W) the only
    columns that may be rivals, or None for all. Rows shorter than the longest are filled up: ``same`` and ``aside``
    with the target, ``within`` with the target too, which is no rival.
    """

    same: Tensor
    aside: Tensor
    counts: Tensor  # (Q,) the number of candidates, target included and counted once
    within: Tensor | None = None

    @classmethod
    def of(
        cls,
        target: Sequence[int],
        ids: Sequence[int],
        context: Sequence[Sequence[int]] | None = None,
        groups: Sequence[int] | None = None,
    ) -> Candidates:
        """target: (Q,) columns. ids: (C,), equal for exact copies. context: (Q, K) columns that the query has seen.

        groups: (C,) if given, rivals must be of the target's own group.
        """
        copies, members = _by_value(ids), _by_value(groups) if groups is not None else None
        same, aside, within, counts = [], [], [], []
        for row, column in enumerate(target):
            twins = copies[ids[column]]
            gone = {*twins, *(context[row] if context is not None else ())}
            same.append([column, *(c for c in twins if c != column)])
            aside.append([column, *sorted(gone - {column})])
            if members is None or groups is None:
                counts.append(1 + len(ids) - len(gone))
            else:
                within.append([column, *(c for c in members[groups[column]] if c not in gone)])
                counts.append(len(within[-1]))
        return cls(
            _padded(same), _padded(aside), torch.tensor(counts), _padded(within) if members is not None else None
        )

    def ranks(self, scores: Tensor, start: int = 0) -> Tensor:
        """(B,) ranks of the queries from ``start`` on. scores: (B, C)."""
        rows = slice(start, start + len(scores))
        own = scores.gather(1, self.same[rows]).amax(1, keepdim=True)
        if self.within is not None:  # a story has few pages, so they are picked out
            picked = scores.gather(1, self.within[rows])
            rival = self.within[rows] != self.within[rows][:, :1]
            return 1 + ((picked > own) & rival).sum(1) + ((picked == own) & rival).sum(1) / 2
        aside, first = scores.gather(1, self.aside[rows]), self.aside[rows][:, :1]
        real = torch.ones_like(aside, dtype=torch.bool)
        real[:, 1:] = self.aside[rows][:, 1:] != first  # what only fills a row up counts once, as the target itself
        better = _count(scores > own) - ((aside > own) & real).sum(1)
        tied = _count(scores == own) - ((aside == own) & real).sum(1)
        return 1 + better + tied / 2


def ranks_by_block(query: Tensor, answers: Tensor, candidates: Candidates, block: int = 256) -> Tensor:
    """(Q,) ranks by the products of queries (Q, D) and answers (C, D), some queries at a time with all answers."""
    rows = range(0, len(query), block)
    found = [candidates.ranks(query[start : start + block] @ answers.T, start) for start in rows]
    return torch.cat(found) if found else torch.zeros(0)


def chance_recall(counts: np.ndarray, k: int) -> np.ndarray:
    """Expected recall@k of a random order of ``counts`` candidates."""
    return np.minimum(k / np.maximum(counts, 1), 1.0)


def chance_reciprocal_rank(counts: np.ndarray) -> np.ndarray:
    """Expected reciprocal rank of a random order: the n-th harmonic number over n."""
    harmonic = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, max(int(counts.max()), 1) + 1))])
    return harmonic[counts] / np.maximum(counts, 1)


def _count(mask: Tensor) -> Tensor:
    """(B,) how many are true in each row; numpy counts booleans many times faster than torch."""
    return torch.tensor([np.count_nonzero(row) for row in mask.numpy()], dtype=torch.long)


def _by_value(values: Sequence[int]) -> dict[int, list[int]]:
    columns: dict[int, list[int]] = defaultdict(list)
    for column, value in enumerate(values):
        columns[value].append(column)
    return columns


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    longest = max((len(r) for r in rows), default=1)
    filled = [[*r, *[r[0]] * (longest - len(r))] for r in rows]
    return torch.tensor(filled, dtype=torch.long).view(len(rows), longest)
