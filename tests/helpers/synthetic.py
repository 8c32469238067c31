"""Small made-up images, for tests that are not about MNIST."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge

from twoplayer.data.base import ImageData, Split, Splits
from twoplayer.metrics.base import Metric, Reference, Sampler

NUM_IMAGES = 192


class Shapes(ImageData):
    """Bright squares on dark ground, a corner for each of four classes."""

    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)],
        image_size: int,
        channels: int,
        num_classes: int,
        num_images: int | None,
        classes: list[int] | None,
    ) -> None:
        super().__init__(
            batch_size=batch_size, image_size=image_size, channels=channels, num_classes=num_classes, num_images=num_images, classes=classes
        )

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


class Brightness(Metric):
    """How far the mean of some samples is from that of real images: a score that takes no time."""

    name = "fd"

    def prepare(self, data: ImageData, device: torch.device) -> None:
        """The means of both splits."""
        self.means = {"validation": data.splits.validation.images.float().mean(), "test": data.splits.test.images.float().mean()}

    def protocol(self) -> dict[str, Any]:
        """Nothing to choose."""
        return {}

    def floor(self) -> float:
        """Between the splits."""
        return float((self.means["validation"] - self.means["test"]).abs())

    def score(self, sample: Sampler, references: Sequence[Reference]) -> dict[Reference, float]:
        """Of 16 samples."""
        mean = (sample(16, 0).float().mean().cpu() + 1) * 127.5
        return {reference: float((mean - self.means[reference]).abs()) for reference in references}
