"""What a metric is: a function of samples and of reference splits, usable with or without a trainer."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from twoplayer.data.base import ImageData

Reference = Literal["validation", "test"]
Sampler = Callable[[int, int], Tensor]
"""Fakes in [-1, 1] of one chunk: (number of images, index of the chunk) to (N, C, H, W); the same chunk is the same images."""


class Metric:
    """A score of a generator, less is better, with its floor: the score of real images against real images.

    All ranks call its methods together; each asks for its own share of the chunks.
    """

    name: ClassVar[str]

    def prepare(self, data: ImageData, device: torch.device) -> str | None:
        """Take in the real images of both reference splits; returns the reason where these data cannot be scored."""
        raise NotImplementedError

    def protocol(self) -> dict[str, Any]:
        """What a score has to share with another to be comparable."""
        raise NotImplementedError

    def floor(self) -> float:
        """The score of the validation split, taken as samples, against the test split."""
        raise NotImplementedError

    def score(self, sample: Sampler, references: Sequence[Reference]) -> dict[Reference, float]:
        """The scores of the same samples against each reference split."""
        raise NotImplementedError
