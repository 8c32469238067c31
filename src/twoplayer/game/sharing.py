"""State that is equal on all ranks, and state that differs between them."""

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.tricks.base import Trick, Tricks


def rank_state(tricks: Tricks) -> dict[str, Tensor]:
    """The buffers that differ between ranks (`Trick.per_rank`), by their names in the game."""
    return {
        f"tricks.chosen.{name}.{buffer}": trick.get_buffer(buffer)
        for name, trick in tricks.chosen.items()
        for buffer in sorted(cast(Trick, trick).per_rank)
    }


def shared_state(game: nn.Module, tricks: Tricks) -> Iterator[tuple[str, Tensor]]:
    """All state that is equal on every rank, by name.

    That is all parameters, and all buffers except those of `rank_state`.
    """
    own = rank_state(tricks)
    for name, tensor in game.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and name not in own:
            yield name, tensor


def statistics(model: nn.Module) -> list[Tensor]:
    """The networks' running statistics, which each rank updates from its slice of the batch."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def save_rank_state(checkpoint: dict[str, Any], tricks: Tricks) -> None:
    """Add every rank's own state to the checkpoint. Collective: all ranks must call it."""
    own = rank_state(tricks)
    gathered = [ranks.gather(tensor) for tensor in own.values()]
    checkpoint["per_rank"] = [dict(zip(own, tensors, strict=True)) for tensors in zip(*gathered, strict=True)]


def load_rank_state(checkpoint: dict[str, Any]) -> None:
    """Copy this rank's own state into the checkpoint's `state_dict`."""
    if checkpoint["per_rank"]:
        checkpoint["state_dict"] |= checkpoint["per_rank"][ranks.rank()]
