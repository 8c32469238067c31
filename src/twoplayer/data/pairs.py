"""Pairs of images made from MNIST."""

from twoplayer.data.mnist import MNIST
from twoplayer.data.pairing import Paired


class Pairs(Paired, MNIST):
    """MNIST's digits, each with a source image; see `Paired`."""
