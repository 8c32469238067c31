"""The semi-supervised GAN (Odena, 2016, arXiv:1606.01583; Salimans et al., 2016, arXiv:1606.03498).

D learns to classify from few labelled images, and from all others that they are real. Its classes
share one number: the logit of "real" is the log of the sum of the exponentials of class logits, as
if "fake" were one more class with logit 0.
"""

from typing import Annotated, Any, cast

from annotated_types import Ge
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from twoplayer.errors import ConfigurationError
from twoplayer.models import dcgan
from twoplayer.models.base import Batch, Example, Judge
from twoplayer.settings import family


class Discriminator(dcgan.Discriminator):
    """A DCGAN's discriminator whose last layer has one logit per class."""

    def __init__(self, *, num_classes: Annotated[int, Ge(2)], **settings: Any) -> None:
        super().__init__(num_classes=num_classes, **settings)
        self.output = nn.Linear(cast(nn.Linear, self.output).in_features, num_classes)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of "real" (N), and features."""
        features = self.features(images)
        return self.output(features).float().logsumexp(1), features


class SGAN(dcgan.DCGAN):
    """A DCGAN whose discriminator also learns from the labelled images of a batch."""

    lacks = {"packs": "model=sgan's D classifies single images"}

    def __init__(self, generator: dcgan.Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        dcgan.DCGAN.refuse(config)
        dcgan.refuse_autoencoder(config)
        discriminator = config.model.discriminator
        if config.data.num_labels is None:
            raise ConfigurationError("data.num_labels=null: model=sgan learns from images with known labels; set data.num_labels=100")
        if get_class(config.loss._target_).of_vectors:
            raise ConfigurationError(
                f"loss={family(config.loss)}: model=sgan's D outputs one logit per class; choose a loss of one logit per image, such as loss=non_saturating"
            )
        if discriminator.conditioning != "none":
            raise ConfigurationError(
                f"model.discriminator.conditioning={discriminator.conditioning}: model=sgan's D guesses the class; set model.discriminator.conditioning=none"
            )

    def discriminator_costs(self, batch: Batch, judge: Judge) -> dict[str, Tensor]:
        """The cross-entropy of the classes on labelled images."""
        *_, images, labels = batch
        side = judge(Example(images, labels, None))
        return {"labelled": cross_entropy(self._classes(side.features), labels)}

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        images, labels = batch[:2]
        _, features = self.judge(Example(images, labels, None))
        return {"class_accuracy": (self._classes(features).argmax(1) == labels).float()}

    def _classes(self, features: Tensor) -> Tensor:
        """Features (N, F) to logits (N, num_classes)."""
        return cast(Discriminator, self.discriminator).output(features).float()
