"""MAGAN (Wang et al., 2017, arXiv:1704.03817): EBGAN whose margin follows the energy of real images down."""

from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from twoplayer import ranks
from twoplayer.losses.energy import Energy
from twoplayer.models.base import Side


class MarginAdaptation(Energy):
    """After every so many real images the margin becomes the mean energy of the real images among them, if that is below the margin
    and below the mean energy of the fakes, and the fakes' has not fallen since the last time: G has stopped to gain.
    """

    def __init__(self, *, num_outputs: Literal[1], margin: Annotated[float, Gt(0)], images: Annotated[int, Gt(0)]) -> None:
        super().__init__(num_outputs=num_outputs, margin=margin)
        self.images = images
        for name in ("real_sum", "fake_sum", "seen", "last_fake"):
            self.register_buffer(name, torch.tensor(0.0))
        self.real_sum: Tensor
        self.fake_sum: Tensor
        self.seen: Tensor
        self.last_fake: Tensor

    def update(self, real: Side, fake: Side) -> None:
        """Add up; adapt where it is time."""
        size = len(real.logits) * ranks.world_size()
        energies = ranks.mean(torch.stack([-real.logits.mean(), -fake.logits.mean()]))
        self.real_sum.add_(size * energies[0])
        self.fake_sum.add_(size * energies[1])
        self.seen.add_(size)
        due = self.seen >= self.images
        real_mean, fake_mean = self.real_sum / self.seen, self.fake_sum / self.seen
        lower = due & (real_mean < self.margin) & (real_mean < fake_mean) & (fake_mean >= self.last_fake)
        self.margin.copy_(torch.where(lower, real_mean, self.margin))
        self.last_fake.copy_(torch.where(due, fake_mean, self.last_fake))
        for total in (self.real_sum, self.fake_sum, self.seen):
            total.masked_fill_(due, 0.0)

    def report(self) -> dict[str, Tensor]:
        """The margin."""
        return {"margin": self.margin}
