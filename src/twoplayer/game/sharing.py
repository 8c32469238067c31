"""What all ranks have in common, and what each has of its own."""

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.tricks.base import Trick, Tricks


def rank_state(tricks: Tricks) -> dict[str, Tensor]:
    """The buffers that differ between ranks, as the tricks that own them declare, by their names in the game."""
    return {
        f"tricks.chosen.{name}.{buffer}": trick.get_buffer(buffer)
        for name, trick in tricks.chosen.items()
        for buffer in sorted(cast(Trick, trick).per_rank)
    }


def shared_state(game: nn.Module, tricks: Tricks) -> Iterator[tuple[str, Tensor]]:
    """All state that is the same on every rank, by name: parameters, and all buffers but those of `rank_state`."""
    own = rank_state(tricks)
    for name, tensor in game.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and name not in own:
            yield name, tensor


def statistics(model: nn.Module) -> list[Tensor]:
    """The running statistics of the networks, which each rank has updated with its slice of the batch."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def save_rank_state(checkpoint: dict[str, Any], tricks: Tricks) -> None:
    """Add the state of each rank, by rank; all ranks take part."""
    own = rank_state(tricks)
    gathered = [ranks.gather(tensor) for tensor in own.values()]
    checkpoint["per_rank"] = [dict(zip(own, tensors, strict=True)) for tensors in zip(*gathered, strict=True)]


def load_rank_state(checkpoint: dict[str, Any]) -> None:
    """Put this rank's own state into the state of the game."""
    if checkpoint["per_rank"]:
        checkpoint["state_dict"] |= checkpoint["per_rank"][ranks.rank()]
