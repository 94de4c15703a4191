"""Ranks of the right frame among its candidates, block by block: 50,000 x 50,000 scores never sit in memory."""

from __future__ import annotations

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


class Candidates:
    """What each of Q queries chooses among: its target, and all C columns but copies of the target and its own context.

    Exact copies of the target count as the target, once, with the best of their scores. target: (Q,) columns. ids: (C,)
    equal for exact copies. context: (Q, K) columns. groups: (C,) to whose own one the rivals of a target are limited.
    """

    def __init__(self, target: Any, ids: Any, context: Any = None, groups: Any = None) -> None:
        self.target, self.ids = torch.as_tensor(target, dtype=torch.long), torch.as_tensor(ids, dtype=torch.long)
        self.context = None if context is None else torch.as_tensor(context, dtype=torch.long)
        self.groups = None if groups is None else torch.as_tensor(groups, dtype=torch.long)

    def copies(self, queries: Tensor) -> Tensor:
        """(B, C) the target and its exact copies."""
        return self.ids == self.ids[self.target[queries]][:, None]

    def rivals(self, queries: Tensor) -> Tensor:
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
        blocks = torch.arange(len(self.target)).split(BLOCK)
        return torch.cat([1 + _count(self.rivals(queries)) for queries in blocks])

    def ranks(self, scores: Tensor, start: int = 0) -> Tensor:
        """(B,) ranks of the queries from ``start`` on. scores: (B, C)."""
        queries = torch.arange(start, start + len(scores))
        own = scores.masked_fill(~self.copies(queries), -torch.inf).amax(1, keepdim=True)
        return tied_rank(scores, own, self.rivals(queries))


def ranks_by_block(query: Tensor, answers: Tensor, candidates: Candidates) -> Tensor:
    """(Q,) ranks by the products of queries (Q, D) and answers (C, D)."""
    blocks = query.split(BLOCK)
    return torch.cat([candidates.ranks(block @ answers.T, BLOCK * i) for i, block in enumerate(blocks)])


def _count(mask: Tensor) -> Tensor:
    """(...) how many are true along the last dimension (..., C); numpy is faster at this than torch."""
    return torch.as_tensor(np.count_nonzero(mask.cpu().numpy(), axis=-1), device=mask.device)
