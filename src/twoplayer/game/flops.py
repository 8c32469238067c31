"""The floating-point operations of one forward pass of each player."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from twoplayer.game.game import Game
from twoplayer.models.base import Batch, evaluating
from twoplayer.tricks.base import Player


@torch.no_grad()
def flops_per_image(game: Game, batch: Batch) -> dict[Player, int]:
    """The operations in the matrix products and convolutions of each player, for one image.

    One multiplication and one addition are two operations. The game is not changed. `batch` holds
    at least as many real images as D judges together.
    """
    num = game.tricks.images_per_logit
    few = tuple(part[:num].to(game.device) for part in batch)
    with evaluating(game.model, game.device):
        latents = game.latents(num, "flops")
        with FlopCounterMode(display=False) as generator:
            example = game.fake(few, latents)
        with FlopCounterMode(display=False) as discriminator:
            game.judge(example)
    return {"generator": generator.get_total_flops() // num, "discriminator": discriminator.get_total_flops() // num}
