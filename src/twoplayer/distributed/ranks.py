"""What ranks exchange: each collective is the identity, or next to nothing, on one process."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process among all ranks; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all ranks; the tensor itself on one."""
    if world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total.div_(world_size())


def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace floating-point tensors by their means over all ranks, in one all-reduce."""
    flat = _flatten_dense_tensors(tensors)
    distributed.all_reduce(flat)
    for tensor, average in zip(tensors, _unflatten_dense_tensors(flat.div_(world_size()), tensors), strict=True):
        tensor.copy_(average)


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks, of the same shape on each, in the order of ranks."""
    if world_size() == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return parts


def concatenate(own: Tensor) -> Tensor:
    """The rows of all ranks, in the order of ranks, for a cost of the whole batch that each rank computes alike.

    Gradients reach this rank's own rows alone, multiplied by the number of ranks: the mean of all ranks' gradients is then that of the cost.
    """
    if world_size() == 1:
        return own
    parts = gather(own.detach())
    parts[rank()] = own.detach() + world_size() * (own - own.detach())
    return torch.cat(parts)


class Vote:
    """What any of the ranks wants, known to all of them at the same iteration. Nobody waits: what is asked after one iteration is
    answered after the next.
    """

    def __init__(self) -> None:
        self._asked: tuple[Tensor, Any] | None = None
        self._group: Any = None

    def cast(self, *wishes: int, wait: bool = False) -> tuple[int, ...]:
        """For each wish the largest of all ranks: those of the last iteration, or with `wait` the present ones. Called by all ranks alike."""
        if world_size() == 1:
            return wishes
        if self._group is None:  # the wishes are on the CPU, whatever the game is played on
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
    """Give all ranks what rank 0 has."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)
