"""The base class of losses that compare sets of vectors, one vector per image."""

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Judge, Side
from twoplayer.settings import family


class SetLoss(Loss):
    """D outputs a vector per image.

    D raises, and G lowers, a distance between the vectors of both sides.
    """

    boundary = None
    of_vectors = True
    compares = True
    batchwise = True
    batchwise_penalties = True
    soft_labels = False
    needs_bounded_slope = True

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse an autoencoder, which outputs an energy instead of a vector."""
        super().refuse(config)
        if OmegaConf.select(config, "model.discriminator.autoencoder"):
            raise ConfigurationError(
                f"loss={family(config.loss)}: it compares vectors, which an autoencoder does not output; set model.discriminator.autoencoder=false"
            )

    def critic(self, vectors: Tensor, real: Side, fake: Side) -> Tensor:
        """The scalars (N) whose slope penalties bound, from vectors (N, d).

        They are computed relative to the vectors of both sides.
        """
        raise NotImplementedError

    def penalized(self, judge: Judge, real: Side, fake: Side, all_real: Side, all_fake: Side) -> tuple[Side, Side, Judge]:
        """The critic's values in place of the logits."""

        def criticized(side: Side) -> Side:
            return side._replace(logits=self.critic(side.logits, all_real, all_fake))

        return criticized(real), criticized(fake), lambda example: criticized(judge(example))


def anchors(side: Side) -> Tensor:
    """The vectors of a side that a critic compares others with.

    They are detached if a penalty differentiates by that side's images: gradients through the
    anchors would count each image once more. Elsewhere D learns through them too, as in the MMD GAN
    authors' code.
    """
    return side.logits.detach() if side.images.requires_grad else side.logits


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances of all rows (N, d) from all rows (M, d): (N, M).

    The gradient is zero where two rows are equal.
    """
    squared = (one[:, None] - other[None]).square().sum(2)
    same = squared == 0
    return torch.where(same, 0.0, torch.where(same, 1.0, squared).sqrt())


def mean_of_others(matrix: Tensor) -> Tensor:
    """The mean of each row (N) of a square matrix (N, N), without its diagonal."""
    return (matrix.sum(1) - matrix.diagonal()) / (len(matrix) - 1)
