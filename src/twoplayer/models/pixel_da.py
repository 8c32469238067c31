"""PixelDA (Bousmalis et al., 2017, arXiv:1612.05424): a classifier for images without labels.

Labelled sources are made to look like unlabelled targets, and a classifier learns from both.
"""

from collections.abc import Callable
from typing import Annotated, Any, cast

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from twoplayer.models import dcgan, translation
from twoplayer.models.base import Batch, Hide, Judge, Model, Picture, Side
from twoplayer.models.resolutions import refuse_image_size

DOMAINS = "model=pixel_da's D knows no classes"


class Generator(translation.Generator):
    """A U-Net, and a classifier of images with the convolutions of a DCGAN's discriminator."""

    beside = ("classifier",)

    def __init__(
        self, *, channels: dcgan.Size, image_size: int, classifier_width: dcgan.Size, num_classes: Annotated[int, Ge(2)], **settings: Any
    ) -> None:
        super().__init__(channels=channels, image_size=image_size, **settings)
        convolutions, num_features = dcgan.halving(channels, classifier_width, image_size, "batch", "strided")
        self.classifier = nn.Sequential(convolutions, nn.Linear(num_features, num_classes))


class PixelDA(Model):
    """A translator whose classifier learns from sources and from what becomes of them.

    `task` is the weight of both cross-entropies, `content` that of the mean squared change of a
    pixel. Labels of targets are not used in training. With loss=own_costs and
    trick=[frozen_discriminator] it is the classifier without adaptation.
    """

    translates = True
    judges_images = False
    needs = frozenset({"sources"})
    lacks = {"labels": DOMAINS, "latents": DOMAINS, "single examples": "model=pixel_da's D is told source images"}

    def __init__(
        self,
        generator: Generator,
        discriminator: translation.Discriminator,
        *,
        task: Annotated[float, Gt(0)],
        content: Annotated[float, Ge(0)],
    ) -> None:
        super().__init__(generator, discriminator)
        self.task, self.content = task, content

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The cross-entropies on sources and on fakes, and how far these are from their sources."""
        sources, labels = batch[2:4]
        error = cross_entropy(self._logits(sources), labels) + cross_entropy(self._logits(fake.images), labels)
        costs = {"task": self.task * error}
        if self.content:
            costs["content"] = self.content * (fake.images - sources).square().mean()
        return costs

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The accuracy of the classifier on targets, and on sources."""
        targets, labels, sources = batch[:3]
        found = {"class_accuracy": targets, "class_accuracy_of_sources": sources}
        return {name: (self._logits(images).argmax(1) == labels).float() for name, images in found.items()}

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Rows of sources, what becomes of them, and targets."""
        targets, _, sources = batch[:3]
        fakes = self.generator(torch.zeros(len(sources), self.latent_size, device=sources.device), sources)
        return {"translations": Picture(torch.cat([sources, fakes.float(), targets]), len(targets))}

    def _logits(self, images: Tensor) -> Tensor:
        return cast(Tensor, cast(Generator, self.generator).classifier(images)).float()
