"""Small made-up images, for tests that are not about MNIST."""

from typing import Any

import torch

from twoplayer.data.base import ImageData, Split, Splits
from twoplayer.data.pairing import Paired
from twoplayer.metrics.base import Images, Metric

NUM_IMAGES = 192


class Shapes(ImageData):
    """Bright squares on dark ground, a corner for each of four classes."""

    def load(self) -> Splits:
        """Three splits of the same distribution."""
        return Splits(*(self._split(seed) for seed in range(3)))

    def _split(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 60, (NUM_IMAGES, self.channels, self.image_size, self.image_size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 4, (NUM_IMAGES,), generator=generator)
        half = self.image_size // 2
        for image, label in zip(images, labels, strict=True):
            top, left = half * (int(label) // 2), half * (int(label) % 2)
            image[:, top + 1 : top + half - 1, left + 1 : left + half - 1] += 180
        return Split(images, labels)


class ShapePairs(Paired, Shapes):
    """The same, with sources."""


class Brightness(Metric):
    """How far the mean of some samples is from that of real images: a score that takes no time."""

    numbers = {"brightness": "lower"}

    def protocol(self) -> dict[str, Any]:
        """Nothing to choose."""
        return {}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        """The means of 16 samples, and of all real images, in steps of a uint8 image."""
        one, other = (images.sampler(images.num or 16, 0).float().mean() for images in (generated, real))
        return {"brightness": float((one - other).abs().cpu()) * 127.5}
