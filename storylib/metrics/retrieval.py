"""Ranks of the right frame among its candidates, block by block: 50,000 x 50,000 scores never sit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 256  # queries


def mean_rank(better: Any, tied: Any) -> Any:
    """Rank, 1 is best, from how many rivals score higher and how many the same; ties share the mean rank."""
    return 1 + better + tied / 2


def tied_rank(scores: Tensor, own: Tensor, rivals: Tensor) -> Tensor:
    """(...) rank of each target among its rivals, by scores (..., C).

    own: (..., 1) score of the target. rivals: bool, broadcast to (..., C), without the target and its exact copies.
    """
    return mean_rank(_count((scores > own) & rivals), _count((scores == own) & rivals))


@dataclass(frozen=True)
class Candidates:
    """What each of Q queries chooses among: its target, and all C columns but copies of the target and its own context.

    Exact copies of the target count as the target: the best of their scores is its own, and they are counted once.
    """

    target: Tensor  # (Q,) columns
    ids: Tensor  # (C,) equal for exact copies
    context: Tensor | None = None  # (Q, K) columns
    groups: Tensor | None = None  # (C,) if there are groups, rivals must be of the target's own

    @classmethod
    def of(cls, target: Any, ids: Any, context: Any = None, groups: Any = None) -> Candidates:
        """From sequences of integers."""
        parts = (target, ids, context, groups)
        return cls(*(None if part is None else torch.as_tensor(part, dtype=torch.long) for part in parts))  # type: ignore[arg-type]

    def copies(self, queries: slice) -> Tensor:
        """(B, C) the target and its exact copies."""
        return self.ids == self.ids[self.target[queries]][:, None]

    def rivals(self, queries: slice) -> Tensor:
        """(B, C) the candidates other than the target."""
        rivals = ~self.copies(queries)
        if self.context is not None:
            rivals.scatter_(1, self.context[queries], False)
        if self.groups is not None:
            rivals &= self.groups == self.groups[self.target[queries]][:, None]
        return rivals

    @cached_property
    def counts(self) -> Tensor:
        """(Q,) the number of candidates, the target included and counted once."""
        starts = range(0, len(self.target), BLOCK)
        blocks = [1 + _count(self.rivals(slice(start, start + BLOCK))) for start in starts]
        return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.long)

    def ranks(self, scores: Tensor, start: int = 0) -> Tensor:
        """(B,) ranks of the queries from ``start`` on. scores: (B, C)."""
        queries = slice(start, start + len(scores))
        own = scores.masked_fill(~self.copies(queries), -torch.inf).amax(1, keepdim=True)
        return tied_rank(scores, own, self.rivals(queries))


def ranks_by_block(query: Tensor, answers: Tensor, candidates: Candidates) -> Tensor:
    """(Q,) ranks by the products of queries (Q, D) and answers (C, D)."""
    starts = range(0, len(query), BLOCK)
    blocks = [candidates.ranks(query[start : start + BLOCK] @ answers.T, start) for start in starts]
    return torch.cat(blocks) if blocks else torch.zeros(0)


def _count(mask: Tensor) -> Tensor:
    """(...) how many are true along the last dimension (..., C); numpy is faster at this than torch."""
    return torch.as_tensor(np.count_nonzero(mask.cpu().numpy(), axis=-1), device=mask.device)
