"""Differentiable augmentations of images (N, C, H, W), random and different for each image."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def translate(images: Tensor, share: float) -> Tensor:
    """Shift by up to `share` of the size, in whole pixels; the border is repeated."""
    height, width = images.shape[-2:]
    rows = _shifted(len(images), height, share, images.device)
    columns = _shifted(len(images), width, share, images.device)
    images = images.gather(2, rows[:, None, :, None].expand(-1, images.shape[1], -1, width))
    return images.gather(3, columns[:, None, None, :].expand(-1, images.shape[1], height, -1))


def cut_out(images: Tensor, share: float) -> Tensor:
    """Set a rectangle with sides of `share` of the size to 0, the middle of the range.

    It may lie partly outside the image.
    """
    height, width = images.shape[-2:]
    rows, columns = (_inside(len(images), size, share, images.device) for size in (height, width))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def brighten(images: Tensor, amount: float) -> Tensor:
    """Add one number, from -`amount` to `amount`, to all pixels of an image."""
    return images + amount * (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1)


def warp(images: Tensor, rotation: float, shear: float, scale: float) -> Tensor:
    """Rotate by up to `rotation` degrees; shear sideways, and scale each side, by up to a share.

    Pixels are interpolated, and the border is repeated.
    """

    def drawn(most: float) -> Tensor:
        return most * (2 * torch.rand(len(images), device=images.device) - 1)

    angle, slant, width, height = torch.deg2rad(drawn(rotation)), drawn(shear), 1 + drawn(scale), 1 + drawn(scale)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    across = torch.stack([width * cosine, width * (slant * cosine - sine), zero], 1)
    down = torch.stack([height * sine, height * (slant * sine + cosine), zero], 1)
    grid = affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="border", align_corners=False).to(images.dtype)


def _shifted(num: int, size: int, share: float, device: torch.device) -> Tensor:
    most = round(size * share)
    return (torch.arange(size, device=device) + torch.randint(-most, most + 1, (num, 1), device=device)).clamp(0, size - 1)


def _inside(num: int, size: int, share: float, device: torch.device) -> Tensor:
    length = round(size * share)
    start = torch.randint(-(length // 2), size - length // 2, (num, 1), device=device)
    position = torch.arange(size, device=device)
    return (position >= start) & (position < start + length)
