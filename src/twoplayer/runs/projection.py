"""The latents of given images: those from which a generator draws what is most like them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import evaluating
from twoplayer.runs.saved import SavedGenerator, sampling_generator
from twoplayer.settings import family

RATE = 0.05
PRIOR = 1e-3
"""The weight of the mean squared latent, which keeps latents where training has seen some."""
MANY = 500


class Projection(NamedTuple):
    """For each image: its latents, the label that was told, what is drawn, and how far that is."""

    latents: Tensor
    labels: Tensor
    images: Tensor
    errors: Tensor
    """The root of the mean squared difference of pixels, in [0, 2]."""


def project(
    generator: SavedGenerator, images: Tensor, *, restarts: int, steps: int, seed: int = 0, say: Callable[[int], object] = lambda step: None
) -> Projection:
    """Find the latents of images (N, C, H, W) in [-1, 1] by Adam on the squared difference.

    Each image starts from `restarts` latents of the prior, of which the best is kept; a conditional
    generator tries each of its classes so often. The rate falls to 0 along a cosine. `say(step)` is
    called after each step. Raises ConfigurationError if images do not follow from latents alone, or
    without a slope.
    """
    game, num = generator.game, len(images)
    if game.model.translates or sampling_generator(game).layout is None:
        raise ConfigurationError(
            f"model={family(generator.config.model)} has no latents that can be found by a slope; name a run of a model that draws images from latents"
        )
    classes = torch.tensor(game.classes) if generator.num_classes is not None else torch.zeros(1, dtype=torch.int64)
    tries = restarts * len(classes)
    wanted = images.to(game.device).repeat_interleave(tries, 0)
    labels = classes.repeat(num * restarts).to(game.device)
    latents = game.latents(num * tries, "projection", seed).clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network = sampling_generator(game)
    with evaluating(network, game.device), torch.enable_grad():
        for step in range(steps):
            optimizer.zero_grad()
            for part, target, told in zip(latents.split(MANY), wanted.split(MANY), labels.split(MANY), strict=True):
                (_differences(network(part, told), target).sum() + PRIOR * part.square().mean(1).sum()).backward()
            optimizer.step()
            schedule.step()
            say(step + 1)
    found = latents.detach()
    drawn = torch.cat([game.sample(*parts) for parts in zip(found.split(MANY), labels.split(MANY), strict=True)])
    errors = _differences(drawn, wanted).sqrt().view(num, tries)
    best = errors.argmin(1) + torch.arange(num, device=errors.device) * tries
    return Projection(found[best], labels[best], drawn[best], errors.flatten()[best])


def _differences(images: Tensor, others: Tensor) -> Tensor:
    return (images.float() - others).square().flatten(1).mean(1)
