"""The layouts in which files hold images, and what a configuration needs to know of them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

CHANNELS_LAST = (1, 3, 4)
"""Sizes of a last dimension that is taken for channels, unless the first one is among them too."""


class Measured(NamedTuple):
    """What the configuration of a data set takes from its files.

    `channels` and `image_size` are those of images, and None for data of another shape, which
    `shape` then holds.
    """

    channels: int | None
    image_size: int | None
    shape: list[int] | None
    num_classes: int


def measured(shape: Sequence[int], num_classes: int) -> Measured:
    """From the shape of one example. Images of unequal sides will be as large as the longer one."""
    size = _channels_height_width(shape)
    if size is None:
        return Measured(None, None, list(shape), num_classes)
    return Measured(size[0], max(size[1:]), None, num_classes)


def to_images(arrays: Tensor) -> Tensor:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) to (N, C, H, W); other shapes stay as they are."""
    size = _channels_height_width(arrays.shape[1:])
    if arrays.ndim == 3:
        return arrays.unsqueeze(1)
    return arrays if size is None or size == tuple(arrays.shape[1:]) else arrays.movedim(-1, 1).contiguous()


def _channels_height_width(shape: Sequence[int]) -> tuple[int, int, int] | None:
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    if len(shape) != 3:
        return None
    last = shape[-1] in CHANNELS_LAST and shape[0] not in CHANNELS_LAST
    return (shape[2], shape[0], shape[1]) if last else (shape[0], shape[1], shape[2])
