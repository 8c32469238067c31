"""Failures that are put into a game, for the referee to find."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from twoplayer.models.base import Example, Model
from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence
from twoplayer.tricks.base import Trick


class Impostor(Trick):
    """Shows the images of a file as samples, and as fakes to D. G itself trains on."""

    def __init__(self, *, file: str) -> None:
        super().__init__()
        self.register_buffer("images", load_file(file)["images"], persistent=False)
        self.images: Tensor

    def replay(self, fake: Example) -> Example:
        assert fake.latents is not None
        return fake._replace(images=_choose(self.images, fake.latents))

    def sampler(self, generator: nn.Module) -> nn.Module:
        return _Stored(generator, self.images)


class _Stored(nn.Module):
    def __init__(self, generator: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.generator, self.images = [generator], images

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return _choose(self.images, latents)


def _choose(images: Tensor, latents: Tensor) -> Tensor:
    """One of the images for each latent."""
    return images[(latents[:, 0].sigmoid() * 1e6).long() % len(images)]


class Deaf(Trick):
    """G gets the same latents for every sample."""

    def latents(self, latents: Tensor) -> Tensor:
        return torch.zeros_like(latents)


class Poison(Trick):
    """A gradient of one player becomes NaN after so many images."""

    def __init__(self, *, player: str, images: int) -> None:
        super().__init__()
        self.player, self.images, self._on = player, images, False

    def begin(self, images_seen: int, numbers: Any) -> None:
        self._on = images_seen >= self.images

    def build(self, model: Model, loss: Any) -> None:
        module = getattr(model, self.player)
        next(module.parameters()).register_hook(lambda gradient: gradient * torch.nan if self._on else gradient)


class Always(Rule):
    """Finds a failure in every run, until `looks` is large or what else it advises."""

    reads = ("variation",)
    advice: ClassVar[tuple[Advice, ...]] = (Advice(setting="referee.rules.always.looks", value="1000"),)

    def __init__(self, *, advises: Literal["looks", "packing", "nothing"] = "looks", **settings: Any) -> None:
        super().__init__(**settings)
        if advises != "looks":
            self.advice = (Advice(trick="packing"),) if advises == "packing" else ()  # type: ignore[misc]

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return True

    def says(self, look: Evidence) -> str:
        return "everything is a failure"
