"""The base class of mixtures of Gaussians, on which the modes of a generator can be counted."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Len
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from twoplayer import plots, randomness
from twoplayer.data.base import Data, Split, Splits, refuse_image_parts
from twoplayer.errors import ConfigurationError
from twoplayer.settings import family

HELD_OUT = 10_000
CELLS = 80
"""The number of points along an axis where D's output is drawn."""


class Mixture(Data):
    """`num_examples` points of a mixture of equal Gaussians of one `deviation`.

    A subclass defines its `centers`. The label of a point is its Gaussian. The points are the same
    for every seed of a run.
    """

    metric: ClassVar[str] = "modes"
    bounded: ClassVar[bool] = False
    num_drawn: ClassVar[int | None] = 1000

    def __init__(
        self,
        *,
        num_examples: Annotated[int, Ge(1)],
        deviation: Annotated[float, Gt(0)],
        shape: Annotated[list[int], Len(1, 2)],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.num_examples, self.deviation, self.shape = num_examples, deviation, shape

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse models and tricks that need images."""
        Data.refuse(config)
        refuse_image_parts(config, f"an example of data={family(config.data)} is a point")

    def check(self, title: str, images: Tensor) -> None:
        """See `Data`."""
        super().check(title, images)
        if list(images.shape[1:]) != self.shape:
            raise ConfigurationError(f"data.shape={self.shape}: an example is {list(images.shape[1:])}; leave data.shape as it is")

    @property
    def centers(self) -> Tensor:
        """The centers (K, D) of all Gaussians, in float32."""
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """The largest coordinate that is drawn."""
        return 1.4 * float(self.centers.abs().max())

    def load(self) -> Splits:
        return Splits(
            *(self._points(name, num) for name, num in (("train", self.num_examples), ("validation", HELD_OUT), ("test", HELD_OUT)))
        )

    def _points(self, name: str, num: int) -> Split:
        generator = randomness.generator("cpu", 0, "mixture", name)
        labels = torch.randint(len(self.centers), (num,), generator=generator)
        return Split(self.centers[labels] + self.deviation * torch.randn(num, self.centers.shape[1], generator=generator), labels)

    def picture(self, samples: Tensor, columns: int, output: Callable[[Tensor], Tensor] | None) -> Image.Image:
        """Samples over real points, and D's output on the plane around them."""
        real = self.splits.train.images[: len(samples)]
        surface = None
        if output is not None:
            axis = torch.linspace(-self.limit, self.limit, CELLS)
            points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2).view(-1, 2)
            surface = output(points.to(samples.device)).view(CELLS, CELLS).cpu()
        return plots.plane(samples.cpu(), real, self.limit, surface)
