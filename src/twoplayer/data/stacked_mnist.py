"""Stacked MNIST: three digits as the channels of one image, 1,000 modes (Metz et al., 2017)."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge

from twoplayer import randomness
from twoplayer.data.base import Split, Splits
from twoplayer.data.mnist import MNIST

HELD_OUT = 26_000
"""The number of samples in published tables: the floor of a divergence depends on it."""


class StackedMNIST(MNIST):
    """`num_examples` triples of digits of MNIST, drawn once for all runs.

    The label of a triple is the number that its digits form, 0 to 999. The validation split stacks
    training digits, the test split test digits.
    """

    metric: ClassVar[str] = "stacked_modes"

    def __init__(self, *, num_examples: Annotated[int, Ge(1)], channels: Literal[3], num_classes: Literal[1000], **settings: Any) -> None:
        super().__init__(channels=channels, num_classes=num_classes, **settings)  # type: ignore[arg-type]
        self.num_examples = num_examples

    def load(self) -> Splits:
        """See `MNIST`; images are uint8 (N, 3, 28, 28)."""
        digits = super().load()
        return Splits(
            _stacked(digits.train, self.num_examples, "train"),
            _stacked(digits.validation, HELD_OUT, "validation"),
            _stacked(digits.test, HELD_OUT, "test"),
        )


def _stacked(digits: Split, num: int, name: str) -> Split:
    chosen = torch.randint(len(digits.labels), (num, 3), generator=randomness.generator("cpu", 0, "stacked", name))
    images = torch.cat([digits.images[chosen[:, place]] for place in range(3)], 1)
    return Split(images, (digits.labels[chosen] * torch.tensor([100, 10, 1])).sum(1))
