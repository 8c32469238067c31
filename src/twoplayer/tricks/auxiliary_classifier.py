"""The auxiliary classifier (AC-GAN; Odena et al., 2017, arXiv:1610.09585).

D also classifies, and G is told to make images of the class that it was given. Tip 16 of "How to
train a GAN"; D's half alone is tip 12.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Judge, Model, Side
from twoplayer.models.conditioning import is_conditional
from twoplayer.settings import family
from twoplayer.tricks.base import Trick


class AuxiliaryClassifier(Trick):
    """A linear layer from D's features to `num_classes` logits, which is D's.

    D is penalized by `weight` times its cross-entropy on real images, or on those of both sides. G
    is penalized by `generator_weight` times the cross-entropy of its fakes.
    """

    needs = frozenset({"labels"})
    excludes = {"packing": "D sees packs of images, which have no class of their own"}

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Ge(2)],
        weight: Annotated[float, Gt(0)],
        generator_weight: Annotated[float, Ge(0)],
        sides: Literal["both", "real"],
    ) -> None:
        super().__init__()
        self.num_classes, self.sides = num_classes, sides
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("generator_weight", torch.tensor(generator_weight))
        self.weight: Tensor
        self.generator_weight: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a G that knows no classes where it is to be penalized for them."""
        chosen = config.trick.auxiliary_classifier
        if (chosen.generator_weight > 0 or chosen.sides == "both") and not is_conditional(config, "generator"):
            raise ConfigurationError(
                f"trick=auxiliary_classifier: model={family(config.model)}'s G is told no class to make images of; set "
                "model.generator.conditioning=concatenate, or let D alone classify, with trick.auxiliary_classifier.generator_weight=0 "
                "trick.auxiliary_classifier.sides=real"
            )

    def build(self, model: Model, loss: Loss) -> None:
        model.discriminator.classifier = nn.Linear(model.num_features(), self.num_classes)
        self._classify = [model.discriminator.classifier]  # in a list: its parameters are D's, not the trick's

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        """The mean over the sides, so that `weight` means the same for one and for two."""
        costs = [self._cost(real), *([self._cost(fake)] if self.sides == "both" else [])]
        return self.weight * torch.stack(costs).mean()

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        return self.generator_weight * self._cost(fake)

    def _cost(self, side: Side) -> Tensor:
        (classify,) = self._classify
        return cross_entropy(classify(side.features.flatten(1)).float(), side.condition)
