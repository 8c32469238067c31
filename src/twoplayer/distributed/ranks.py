"""Collectives of the ranks; but for `average_in_place` they need no process group for one rank."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The rank of this process; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all ranks; on one rank the tensor itself."""
    if world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total.div_(world_size())


def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace floating-point tensors by their means over all ranks, with one all-reduce."""
    flat = _flatten_dense_tensors(tensors)
    distributed.all_reduce(flat)
    for tensor, average in zip(tensors, _unflatten_dense_tensors(flat.div_(world_size()), tensors), strict=True):
        tensor.copy_(average)


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks in rank order; the shape must be the same on each."""
    if world_size() == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return parts


def concatenate(own: Tensor) -> Tensor:
    """The rows of all ranks in rank order, for a cost of the whole batch that every rank computes.

    Gradients reach only this rank's own rows, multiplied by the number of ranks: the mean of the
    gradients over ranks is then the gradient of the cost.
    """
    if world_size() == 1:
        return own
    parts = gather(own.detach())
    parts[rank()] = own.detach() + world_size() * (own - own.detach())
    return torch.cat(parts)


class Vote:
    """Makes all ranks act on a request of any rank at the same iteration.

    The all-reduce is asynchronous: a request of one iteration takes effect after the next.
    """

    def __init__(self) -> None:
        self._asked: tuple[Tensor, Any] | None = None
        self._group: Any = None

    def cast(self, *wishes: int, wait: bool = False) -> tuple[int, ...]:
        """Return the maximum of each wish over all ranks. All ranks must call it.

        They are the wishes of the previous call, or with `wait` those of this one.
        """
        if world_size() == 1:
            return wishes
        if self._group is None:  # wishes are CPU tensors on every device
            self._group = distributed.new_group(backend="gloo")
        last = self._take()
        tensor = torch.tensor(wishes)
        self._asked = tensor, distributed.all_reduce(tensor, distributed.ReduceOp.MAX, self._group, async_op=True)
        return self._take() if wait else last or (0,) * len(wishes)

    def _take(self) -> tuple[int, ...]:
        if self._asked is None:
            return ()
        (tensor, work), self._asked = self._asked, None
        work.wait()
        return tuple(tensor.tolist())


def broadcast_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace the tensors by those of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)
