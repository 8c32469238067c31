"""Past fakes are shown to D again (Shrivastava et al., 2017, arXiv:1612.07828; tip 8 of "How to train a GAN")."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from twoplayer.models.base import Example
from twoplayer.tricks.base import Trick


class Replay(Trick):
    """A `share` of D's fakes are old ones, drawn from the newest `capacity` that were kept; as many of the new ones are kept instead."""

    per_rank: ClassVar[frozenset[str]] = frozenset({"images", "labels", "kept"})

    def __init__(
        self,
        *,
        share: Annotated[float, Gt(0), Le(1)],
        capacity: Annotated[int, Ge(1)],
        channels: Annotated[int, Ge(1)],
        image_size: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.share, self.capacity = share, capacity
        self.register_buffer("images", torch.zeros(capacity, channels, image_size, image_size))
        self.register_buffer("labels", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("kept", torch.tensor(0))  # so far; they lie in a ring
        self.images: Tensor
        self.labels: Tensor
        self.kept: Tensor

    def replay(self, fake: Example) -> Example:
        """Old ones at the front of the batch, and new ones into the store."""
        num = min(max(round(self.share * len(fake.images)), 1), self.capacity)
        held = self.kept.clamp(max=self.capacity)
        chosen = (torch.rand(num, device=fake.images.device) * held).long()
        old_images, old_labels = self.images[chosen], self.labels[chosen]
        new_images, new_labels = fake.images[:num].float(), fake.labels[:num]
        places = (self.kept + torch.arange(num, device=fake.images.device)) % self.capacity
        self.images.index_copy_(0, places, new_images)
        self.labels.index_copy_(0, places, new_labels)
        some = held > 0
        self.kept.add_(num)
        first_images = torch.where(some, old_images, new_images)
        first_labels = torch.where(some, old_labels, new_labels)
        return Example(torch.cat([first_images, fake.images[num:]]), torch.cat([first_labels, fake.labels[num:]]), None)
