"""EBGAN (Zhao, Mathieu and LeCun, 2017, arXiv:1609.03126).

D is an autoencoder; its error on an image is the energy of the image.
"""

from typing import Annotated

import torch
from annotated_types import Gt
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import relu

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.settings import family


class AutoencoderLoss(Loss):
    """The base class of losses whose logit is the negative energy of an image."""

    boundary = None
    soft_labels = False

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse a discriminator that is not an autoencoder."""
        super().refuse(config)
        autoencoder = OmegaConf.select(config, "model.discriminator.autoencoder")
        wants = f"loss={family(config.loss)}: it needs an autoencoder as the discriminator"
        if autoencoder is None:
            raise ConfigurationError(
                f"{wants}, which model={family(config.model)} does not have; "
                "choose a model with the setting model.discriminator.autoencoder, such as model=dcgan, or another loss"
            )
        if not autoencoder:
            raise ConfigurationError(f"{wants}; set model.discriminator.autoencoder=true")

    def real(self, logits: Tensor) -> Tensor:
        """The energy."""
        return -logits

    def fool(self, logits: Tensor) -> Tensor:
        """The energy."""
        return -logits


class Energy(AutoencoderLoss):
    """D lowers the energy of real images, and raises that of fakes up to a margin."""

    def __init__(self, *, margin: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.register_buffer("margin", torch.tensor(margin))
        self.margin: Tensor

    def fake(self, logits: Tensor) -> Tensor:
        """The margin minus the energy, if positive."""
        return relu(self.margin + logits)
