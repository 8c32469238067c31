"""EMA of G's weights, for samples and metrics (Yaz et al., 2019, arXiv:1806.04498).

The half-life is in images and ramped up as in StyleGAN2 (Karras et al., 2020, arXiv:1912.04958).
"""

import copy
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from twoplayer.tricks.base import Trick

AVERAGED_BUFFERS = ("running_mean", "running_var")


class EMA(Trick):
    """The half-life is `half_life_images`, or `ramp_up` times the images seen if that is less.

    Batch-norm statistics are averaged like weights. Other buffers, such as the vectors of spectral
    norm, belong to the present weights and are copied. If G has several steps in an iteration, the
    first one is averaged. Training is not affected.
    """

    def __init__(self, *, half_life_images: Annotated[float, Gt(0)], ramp_up: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.ramp_up = ramp_up
        self.generator: nn.Module
        self._pairs: tuple[list[Tensor], ...] | None = None
        self.images_seen: Tensor
        self.updated_at: Tensor
        self.register_buffer("half_life_images", torch.tensor(half_life_images))
        self.half_life_images: Tensor
        self.register_buffer("images_seen", torch.tensor(0))
        self.register_buffer("updated_at", torch.tensor(0))

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """The average starts as a copy."""
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._pairs = None

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self.images_seen.fill_(images_seen)

    @torch.no_grad()
    def after_generator(self, generator: nn.Module) -> None:
        """Move the average by the images seen since the generator's last step."""
        half_life = torch.minimum(self.images_seen * self.ramp_up, self.half_life_images)
        elapsed = (self.images_seen - self.updated_at).float()
        # Before any image has been seen, take the present weights.
        decay = torch.where(half_life > 0, 0.5 ** (elapsed / half_life), 0.0)
        if self._pairs is None:  # only now are both on their final device
            self._pairs = _averaged(self.generator), _averaged(generator), _copied(self.generator), _copied(generator)
        averages, present, copies, originals = self._pairs
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, torch._foreach_mul(present, 1 - decay))
        for copied, original in zip(copies, originals, strict=True):
            copied.copy_(original)
        self.updated_at.copy_(self.images_seen)

    def sampler(self, generator: nn.Module) -> nn.Module:
        return self.generator


def _averaged(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *(buffer for name, buffer in module.named_buffers() if name.endswith(AVERAGED_BUFFERS))]


def _copied(module: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in module.named_buffers() if not name.endswith(AVERAGED_BUFFERS)]
