"""Faults of samples in growing doses: the ladder that each score has to climb.

Each takes images (N, 1, 28, 28) in [-1, 1], their labels, a dose from 0 to 2, and the number of
images to return.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad


def repeated(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """Only 1,000, 100 or 10 different images."""
    few = images[: (1000, 100, 10)[dose]]
    return few.repeat(-(-num // len(few)), 1, 1, 1)[:num]


def classes_missing(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """No images of one, three or six classes."""
    kept = images[labels >= (1, 3, 6)[dose]]
    return kept.repeat(3, 1, 1, 1)[:num]


def blur(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """Each pixel is the mean over 3 x 3, 5 x 5 or 7 x 7."""
    size = (3, 5, 7)[dose]
    return avg_pool2d(images[:num], size, 1, size // 2, count_include_pad=False)


def noise(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """Gaussian noise of deviation 0.2, 0.5 or 1."""
    return (images[:num] + (0.2, 0.5, 1.0)[dose] * torch.randn(images[:num].shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


def shift(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """By one, two or four pixels to the right."""
    pixels = (1, 2, 4)[dose]
    return pad(images[:num], (pixels, 0, 0, 0), value=-1)[..., :28]


def checkerboard(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """A pattern of 0.1, 0.3 or 0.6, as transposed convolutions draw it."""
    board = (torch.arange(28)[:, None] + torch.arange(28)) % 2 * 2 - 1
    return (images[:num] + (0.1, 0.3, 0.6)[dose] * board).clamp(-1, 1)


def smaller(images: Tensor, labels: Tensor, dose: int, num: int) -> Tensor:
    """Digits of 26, 22 or 16 pixels instead of 28."""
    size = (26, 22, 16)[dose]
    left = (28 - size) // 2
    return pad(interpolate(images[:num], (size, size), mode="bilinear"), (left, 28 - size - left, left, 28 - size - left), value=-1)


FAULTS = [repeated, classes_missing, blur, noise, shift, checkerboard, smaller]
