"""Balanced consistency regularization (bCR; Zhao et al., 2021, arXiv:2002.04724).

D's output should not change when an image is shifted.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Judge, Side, as_example
from twoplayer.tricks.augmentations import translate
from twoplayer.tricks.base import Trick


class Consistency(Trick):
    """The mean squared change of D's output when images shift by up to `shift` of their size.

    Real images and fakes have a weight each.
    """

    needs = frozenset({"images"})

    def __init__(
        self,
        *,
        real_weight: Annotated[float, Ge(0)],
        fake_weight: Annotated[float, Ge(0)],
        shift: Annotated[float, Gt(0), Lt(1)],
        every_updates: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.shift, self.every_updates = shift, every_updates
        for name, weight in (("real_weight", real_weight), ("fake_weight", fake_weight)):
            self.register_buffer(name, torch.tensor(weight))
        self.real_weight: Tensor
        self.fake_weight: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse batch normalization where the shifted images are in a different kind of batch."""
        other = next((name for name in ("mixed_batches", "replay") if name in config.trick), None)
        if other and OmegaConf.select(config, "model.discriminator.normalization") == "batch":
            raise ConfigurationError(
                f"trick=[consistency,{other}]: with batch normalization D would normalize shifted images by other statistics than the originals; "
                "set model.discriminator.normalization=layer, or leave one of them out"
            )

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        return self.real_weight * self._change(real, judge) + self.fake_weight * self._change(fake, judge)

    def _change(self, side: Side, judge: Judge) -> Tensor:
        moved = judge(as_example(side, translate(side.images.detach(), self.shift)))
        return (moved.logits - side.logits).square().mean()
