"""EBGAN (Zhao, Mathieu and LeCun, 2017, arXiv:1609.03126): D is an autoencoder, and the error it makes on an image is the image's energy."""

from typing import Annotated

import torch
from annotated_types import Gt
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import relu

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss


class AutoencoderLoss(Loss):
    """What losses have in common for which a logit is the negative energy of an image."""

    boundary = None
    soft_labels = False

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """A discriminator that is no autoencoder."""
        super().refuse(config)
        autoencoder = OmegaConf.select(config, "model.discriminator.autoencoder")
        wants = f"loss={config.loss._target_.split('.')[-2]}: it judges by the error of an autoencoder"
        if autoencoder is None:
            raise ConfigurationError(
                f"{wants}, which model={config.model._target_.split('.')[-2]} does not have; "
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
        """What the energy lacks to the margin."""
        return relu(self.margin + logits)
