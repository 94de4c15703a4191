"""Several processes that train one model: who is who, and rows gathered across them together with their gradients.

``accelerate launch`` starts them. Each takes its share of the same batches, and the losses come out as if one process
had seen the whole batch. In a single process nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes of one training, seen from one of them."""

    rank: int = 0  # this process; 0 is the main one, which alone writes files
    size: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, batch: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch. Parts follow each other by rank and differ by one item at most."""
        first, last = (len(batch) * r // self.size for r in (self.rank, self.rank + 1))
        return batch[first:last]

    def total(self, count: Tensor) -> Tensor:
        """The sum over all processes, without gradients."""
        if self.size > 1:
            count = count.detach().clone()
            dist.all_reduce(count)
        return count

    def weight(self, count: Tensor) -> Tensor:
        """What a mean over ``count`` items of this process weighs, so that the mean over processes is that over all."""
        return count * self.size / self.total(count).clamp(min=1)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (N_r, ...) of every process, one after the other by rank, with their gradients."""
        return rows if self.size == 1 else _Gather.apply(rows, self.rank, self.size)

    def agree(self, value: T) -> T:
        """The main process's value, in every process; none goes on before all have come here."""
        return broadcast_object_list([value])[0] if self.size > 1 else value

    def collect(self, value: T) -> list[T]:
        """Every process's value, by rank, in every process."""
        return gather_object([value]) if self.size > 1 else [value]


ALONE = Group()


class _Gather(torch.autograd.Function):
    """All rows forward; backward, each process gets back what every process's loss asks of its own rows.

    A gather without this leaves the rows of the others constant: at two processes the contrastive gradient is then half
    of what it is in one process, while the other losses keep theirs.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        lengths = [int(count) for count in counts]
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(size)]
        dist.all_gather(parts, padded)
        ctx.span = sum(lengths[:rank]), sum(lengths[: rank + 1])
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        first, last = ctx.span
        return gradient[first:last], None, None


def join(device: str) -> Group:
    """The group that this process belongs to, if ``accelerate launch`` started it; otherwise it is alone."""
    state = _state(device)
    return Group(state.process_index, state.num_processes)


def accelerator(device: str, precision: str = "no") -> Accelerator:
    """The library's handle of devices, processes and mixed precision.

    device: "cpu", "cuda" or "mps". precision: "no", "bf16" or "fp16".
    """
    _state(device)
    distributed = DistributedDataParallelKwargs(  # an arm that is off uses none of its parameters; buffers never change
        find_unused_parameters=True, broadcast_buffers=False
    )
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, kwargs_handlers=[distributed])


def _state(device: str) -> PartialState:
    """Fresh for each training: the library keeps one state a process, and refuses a second device or precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return PartialState(cpu=device == "cpu")
