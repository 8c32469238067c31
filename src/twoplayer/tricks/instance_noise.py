"""Instance noise (Sønderby et al., 2017, arXiv:1610.04490).

D sees all images through Gaussian noise that fades, so that real and fake overlap while G is still
poor (also Arjovsky and Bottou, 2017, arXiv:1701.04862).
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from twoplayer.tricks.base import Trick


class InstanceNoise(Trick):
    """The standard deviation falls linearly from `sigma` to 0 over `fade_images` real images."""

    moving = frozenset({"sigma"})

    def __init__(self, *, sigma: Annotated[float, Gt(0)], fade_images: Annotated[int, Gt(0)]) -> None:
        super().__init__()
        self.start, self.fade_images = sigma, fade_images
        self.register_buffer("sigma", torch.tensor(sigma))
        self.sigma: Tensor

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self.sigma.fill_(self.start * max(0.0, 1 - images_seen / self.fade_images))

    def view(self, images: Tensor) -> Tensor:
        return images + self.sigma * torch.randn_like(images)

    def report(self) -> dict[str, Tensor]:
        return {"sigma": self.sigma}
