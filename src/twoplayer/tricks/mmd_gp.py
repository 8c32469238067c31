"""The gradient penalty of MMD GAN (Bińkowski et al., 2018, arXiv:1801.01401): that of WGAN-GP, on the witness between two sets."""

from twoplayer.tricks.wgan_gp import WGANGP


class MMDGP(WGANGP):
    """The same term; its authors give it a tenth of the weight that WGAN-GP's give it."""
