"""What the losses have in common that compare sets of vectors, one for each image."""

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Judge, Side


class SetLoss(Loss):
    """D gives a vector per image; a distance of the two sets of vectors is what D raises and G lowers."""

    boundary = None
    of_vectors = True
    compares = True
    batchwise = True
    batchwise_penalties = True
    soft_labels = False
    needs_bounded_slope = True

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """An autoencoder, which gives an energy and no vector."""
        super().refuse(config)
        if OmegaConf.select(config, "model.discriminator.autoencoder"):
            raise ConfigurationError(
                f"loss={config.loss._target_.split('.')[-2]}: it compares vectors, which an autoencoder does not give; set model.discriminator.autoencoder=false"
            )

    def critic(self, vectors: Tensor, real: Side, fake: Side) -> Tensor:
        """The scalar of each vector (N, d) whose slope penalties bound, (N), given the vectors of both sides."""
        raise NotImplementedError

    def penalized(self, judge: Judge, real: Side, fake: Side, all_real: Side, all_fake: Side) -> tuple[Side, Side, Judge]:
        """The critic in the place of the logits."""

        def criticized(side: Side) -> Side:
            return side._replace(logits=self.critic(side.logits, all_real, all_fake))

        return criticized(real), criticized(fake), lambda example: criticized(judge(example))


def anchors(side: Side) -> Tensor:
    """The vectors of a side that a critic compares others with. Constants where a penalty differentiates by the images of that side: through
    the anchors each would count once more. Elsewhere D learns through them as well, as in the code of MMD GAN's authors.
    """
    return side.logits.detach() if side.images.requires_grad else side.logits


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances of all rows (N, d) from all rows (M, d): (N, M), with a gradient of zero where two are the same."""
    squared = (one[:, None] - other[None]).square().sum(2)
    same = squared == 0
    return torch.where(same, 0.0, torch.where(same, 1.0, squared).sqrt())


def mean_of_others(matrix: Tensor) -> Tensor:
    """The mean of each row (N) of a square matrix (N, N), its diagonal left out."""
    return (matrix.sum(1) - matrix.diagonal()) / (len(matrix) - 1)
