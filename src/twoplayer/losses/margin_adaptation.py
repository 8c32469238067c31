"""MAGAN (Wang et al., 2017, arXiv:1704.03817): EBGAN whose margin follows the energy of real images down."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.losses.energy import Energy
from twoplayer.models.base import Side


class MarginAdaptation(Energy):
    """After `every_images` real images the margin becomes the mean energy of the real images among them, if that is below the margin
    and below the mean energy of the fakes, and the fakes' has not fallen since the last time: G has stopped to gain.

    While `pretraining_images` have not been seen, D learns to reconstruct real images alone; then the margin is the mean energy of the last
    quarter of them.
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
        # Of the last look, of which the first has none: in the paper it is infinite, which a checkpoint refuses.
        self.register_buffer("last_fake", torch.tensor(torch.finfo(torch.float32).max))
        self.real_sum: Tensor
        self.fake_sum: Tensor
        self.summed: Tensor
        self.images_seen: Tensor
        self.last_fake: Tensor

    def update(self, real: Side, fake: Side) -> None:
        """Add up; adapt where it is time."""
        size = len(real.logits) * ranks.world_size()
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
        """The margin."""
        return {"margin": self.margin}
