"""The adversarial autoencoder of class and style (Makhzani et al., 2016, arXiv:1511.05644).

A code is a category and a style, and D compares both with the prior: a category that is certain,
all equally often, and a normal style that is independent of it. With the labels of a few images the
categories are the classes (section 5 of the paper); without any they are found (section 6).
"""

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import cross_entropy

from twoplayer.models import mlp
from twoplayer.models.aae import JudgesCodes
from twoplayer.models.base import Batch, Example, Hide, Judge, Side
from twoplayer.models.categories import Categories, Generator

CODES = "model=categorical_aae's D judges codes"


class CategoricalAAE(JudgesCodes, Categories):
    """An autoencoder whose codes fool a fully connected discriminator.

    `weight` is that of the mean squared error of a pixel, and `label_weight` that of the
    cross-entropy of the classes of labelled images, if `num_labels` of the training images have
    labels.
    """

    lacks = {"images": CODES, "labels": CODES, "single examples": CODES, "latents": CODES, "a prior": CODES}

    def __init__(
        self,
        generator: Generator,
        discriminator: mlp.Discriminator,
        *,
        weight: Annotated[float, Gt(0)],
        label_weight: Annotated[float, Gt(0)],
        num_labels: Annotated[int, Ge(1)] | None,
    ) -> None:
        super().__init__(generator, discriminator)
        self.weight, self.label_weight, self.num_labels = weight, label_weight, num_labels

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """Codes of the prior."""
        return Example(self.prior(latents), batch[1], None)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The error of what the generator makes of the codes, and that of known classes."""
        costs = {"reconstruction": self.weight * self.reconstruction(fake, batch)}
        if self.num_labels is not None:
            *_, images, labels = batch
            costs["labelled"] = self.label_weight * cross_entropy(self.found(images)[0], labels)
        return costs

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """Also the share of images in the category of their class, where some labels are known."""
        images, labels = batch[:2]
        right = {} if self.num_labels is None else {"class_accuracy": (self.clusters(images, labels) == labels).float()}
        return {**super().measures(batch), **right}
