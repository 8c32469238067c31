"""The gradient penalty of MMD GAN (Bińkowski et al., 2018, arXiv:1801.01401).

It is that of WGAN-GP, applied to the witness function between two sets of vectors.
"""

from twoplayer.tricks.wgan_gp import WGANGP


class MMDGP(WGANGP):
    """The term of WGAN-GP; its authors give it a tenth of WGAN-GP's weight."""
