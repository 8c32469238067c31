"""MAGAN (Wang et al., 2017, arXiv:1704.03817).

EBGAN with a margin that falls with the energy of real images.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.losses.energy import Energy
from twoplayer.models.base import Side


class MarginAdaptation(Energy):
    """Every `every_images` real images the margin may fall to their mean energy.

    It falls if that is below both the margin and the mean energy of the fakes, and if the energy of
    the fakes has not fallen since the last check: G has stopped improving.

    During the first `pretraining_images` D learns to reconstruct real images only. Then the margin
    is set to the mean energy of the last quarter of them.
    """

    def __init__(
        self,
        *,
        margin: Annotated[float, Gt(0)],
        pretraining_images: Annotated[int, Ge(0)],
        every_images: Annotated[int, Gt(0)],
    ) -> None:
        super().__init__(margin=0.0 if pretraining_images else margin)
        self.every_images, self.pretraining_images = every_images, pretraining_images
        for name in ("real_sum", "fake_sum", "summed", "images_seen"):
            self.register_buffer(name, torch.tensor(0.0))
        # The value at the last check. The paper starts at infinity, which checkpoints refuse.
        self.register_buffer("last_fake", torch.tensor(torch.finfo(torch.float32).max))
        self.real_sum: Tensor
        self.fake_sum: Tensor
        self.summed: Tensor
        self.images_seen: Tensor
        self.last_fake: Tensor

    def update(self, real: Side, fake: Side) -> None:
        """Sum the energies; adapt the margin when a check is due."""
        size = len(real.images) * ranks.world_size()
        energies = ranks.mean(torch.stack([-real.logits.mean(), -fake.logits.mean()]))
        pretraining = self.images_seen < self.pretraining_images
        self.images_seen.add_(size)
        pretrained = pretraining & (self.images_seen >= self.pretraining_images)
        counted = size * (self.images_seen >= 0.75 * self.pretraining_images)
        self.real_sum.add_(counted * energies[0])
        self.fake_sum.add_(counted * energies[1])
        self.summed.add_(counted)
        due = ~pretraining & (self.summed >= self.every_images)
        real_mean, fake_mean = (total / self.summed.clamp_min(1) for total in (self.real_sum, self.fake_sum))
        lower = due & (real_mean < self.margin) & (real_mean < fake_mean) & (fake_mean >= self.last_fake)
        self.margin.copy_(torch.where(lower | pretrained, real_mean, self.margin))
        self.last_fake.copy_(torch.where(due, fake_mean, self.last_fake))
        for total in (self.real_sum, self.fake_sum, self.summed):
            total.masked_fill_(due | pretrained, 0.0)

    def report(self) -> dict[str, Tensor]:
        return {"margin": self.margin}
