"""Past fakes in D's updates (Shrivastava et al., 2017, arXiv:1612.07828).

Tip 8 of "How to train a GAN".
"""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Example, Judge, Side
from twoplayer.tricks.base import Trick


class Replay(Trick):
    """A `share` of D's fakes are drawn from the newest `capacity` stored ones.

    As many new fakes are stored instead. D judges old and new fakes in separate batches: batch
    normalization of both together would differ from that of G's update, which has only new ones.
    """

    needs = frozenset({"single examples"})
    per_rank: ClassVar[frozenset[str]] = frozenset({"images", "condition", "kept"})

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
        self.register_buffer("condition", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("kept", torch.tensor(0))  # number so far; the store is a ring buffer
        self.images: Tensor
        self.condition: Tensor
        self.kept: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse packs of old and new fakes, and single fakes, which cannot be normalized."""
        settings, packing = config.trick.replay, config.trick.get("packing")
        num_fakes = config.data.batch_size // (config.trainer.devices * config.trainer.num_nodes)
        num = _num_old(settings.share, settings.capacity, num_fakes)
        if 1 in (num, num_fakes - num) and OmegaConf.select(config, "model.discriminator.normalization") == "batch":
            raise ConfigurationError(
                f"trick.replay.share={settings.share}: {num} of {num_fakes} fakes would be old, and batch normalization needs two or more of old and of new; "
                "choose another share"
            )
        if packing and num % packing.size:
            raise ConfigurationError(
                f"trick=[replay,packing]: {num} old fakes do not divide into packs of {packing.size}; "
                "choose trick.replay.share and trick.replay.capacity so that they do"
            )

    def replay(self, fake: Example) -> Example:
        """Old fakes replace the first of the batch, which are stored."""
        num = _num_old(self.share, self.capacity, len(fake.images))
        held = self.kept.clamp(max=self.capacity)
        chosen = (torch.rand(num, device=fake.images.device) * held).long()
        old_images, old_condition = self.images[chosen], self.condition[chosen]
        new_images, new_condition = fake.images[:num].float(), fake.condition[:num]
        places = (self.kept + torch.arange(num, device=fake.images.device)) % self.capacity
        self.images.index_copy_(0, places, new_images)
        self.condition.index_copy_(0, places, new_condition)
        some = held > 0
        self.kept.add_(num)
        first_images = torch.where(some, old_images, new_images)
        first_condition = torch.where(some, old_condition, new_condition)
        return Example(torch.cat([first_images, fake.images[num:]]), torch.cat([first_condition, fake.condition[num:]]), None)

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        """Three batches: real, old fakes, new fakes."""
        real_side = judge(real)
        num = _num_old(self.share, self.capacity, len(fake.images))
        old, new = (Example(fake.images[part], fake.condition[part], None) for part in (slice(num), slice(num, None)))
        parts = [judge(part) for part in (old, new) if len(part.images)]
        logits, features = torch.cat([part.logits for part in parts]), torch.cat([part.features for part in parts])
        return real_side, Side(*fake, logits, features)


def _num_old(share: float, capacity: int, num_fakes: int) -> int:
    return min(max(round(share * num_fakes), 1), capacity)
