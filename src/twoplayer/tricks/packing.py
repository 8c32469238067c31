"""PacGAN (Lin et al., 2018, arXiv:1712.04086): D judges packs of images, all real or all fake.

So it sees when fakes are too similar.
"""

from typing import Annotated

from annotated_types import Ge, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models.conditioning import is_conditional
from twoplayer.tricks.base import Trick


class Packing(Trick):
    """Stacks `size` images along their channels; D gives one logit per pack."""

    needs = frozenset({"packs"})
    order = 1  # after all tricks that change each image

    def __init__(self, *, size: Annotated[int, Ge(2), Le(4)]) -> None:
        super().__init__()
        self.size = self.images_per_logit = size

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse batches that do not divide into packs, and a D that is told classes."""
        if is_conditional(config, "discriminator"):
            raise ConfigurationError(
                "trick=packing: a pack of images has no class of its own; set model.discriminator.conditioning=none, or leave the trick out"
            )
        size, batch_size = config.trick.packing.size, config.data.batch_size
        ranks = config.trainer.devices * config.trainer.num_nodes
        if batch_size // ranks % size:
            raise ConfigurationError(
                f"trick.packing.size={size}: data.batch_size={batch_size}{f' on {ranks} ranks' if ranks > 1 else ''} does not divide into packs of {size}; set a multiple"
            )

    def view(self, images: Tensor) -> Tensor:
        """(N, C, ...) to (N / size, size C, ...)."""
        return images.reshape(len(images) // self.size, self.size * images.shape[1], *images.shape[2:])
