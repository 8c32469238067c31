"""Adaptive discriminator augmentation (ADA; Karras et al., 2020, arXiv:2006.06676).

The more D overfits, the more images are augmented.
"""

from typing import Annotated, cast

import torch
from annotated_types import Gt, Lt
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Model, Side
from twoplayer.tricks.augmentations import brighten, cut_out, translate
from twoplayer.tricks.base import Trick


class ADA(Trick):
    """Applies each augmentation to each image with `probability`.

    The controller measures the mean sign of D's output on real images. The probability rises while
    it is above `target` and falls while it is below, by 1 in `ramp_images` real images.
    """

    needs = frozenset({"images"})
    moving = frozenset({"probability", "sign"})

    def __init__(
        self,
        *,
        target: Annotated[float, Gt(0), Lt(1)],
        ramp_images: Annotated[int, Gt(0)],
        brightness: Annotated[float, Gt(0)],
        translation: Annotated[float, Gt(0), Lt(1)],
        cutout: Annotated[float, Gt(0), Lt(1)],
    ) -> None:
        super().__init__()
        self.target, self.ramp_images = target, ramp_images
        self.brightness, self.translation, self.cutout = brightness, translation, cutout
        for name in ("probability", "sign"):
            self.register_buffer(name, torch.tensor(0.0))
        self.probability: Tensor
        self.sign: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse losses without a boundary, for which the sign has no meaning."""
        loss = get_class(config.loss._target_)
        if loss.boundary is None:
            raise ConfigurationError(
                f"trick=ada: with {loss.__name__} D's output has no boundary between real and fake, which this trick needs; use trick=[diff_augment], or another loss"
            )

    def build(self, model: Model, loss: Loss) -> None:
        self.boundary = cast(float, loss.boundary)  # `refuse` rules out None

    def view(self, images: Tensor) -> Tensor:
        for change, amount in ((brighten, self.brightness), (translate, self.translation), (cut_out, self.cutout)):
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.probability
            images = torch.where(chosen, change(images, amount), images)
        return images

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        self.sign.copy_(ranks.mean((real.logits - self.boundary).sign().mean()))
        step = len(real.images) * ranks.world_size() / self.ramp_images
        self.probability.add_(step * (self.sign - self.target).sign()).clamp_(0, 1)

    def report(self) -> dict[str, Tensor]:
        """`sign` is r_t in the paper."""
        return {"probability": self.probability, "sign": self.sign}
