"""What a metric is: it compares generated images with real ones, with or without a trainer."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.data.base import ImageData, to_unit_range
from twoplayer.errors import ConfigurationError

CHUNK = 500
"""So many images are generated, and looked at, at a time."""

Reference = Literal["validation", "test"]
Better = Literal["lower", "higher"]
Sampler = Callable[[int, int], Tensor]
"""Images in [-1, 1] of one chunk: (number of images, index of the chunk) to (N, C, H, W); the same chunk is the same images."""
Kept = TypeVar("Kept")


class Images:
    """Images in chunks: those of a real split, or of a generator as it is now.

    What one metric computes of them can be kept for the others. `num` is None where there is no end of them.
    """

    def __init__(self, sampler: Sampler, num: int | None = None) -> None:
        self.sampler, self.num = sampler, num
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def real(cls, images: Tensor, device: torch.device) -> "Images":
        """Of uint8 images (N, C, H, W)."""
        return cls(lambda num, index: to_unit_range(images[index * CHUNK :][:num].to(device)), len(images))

    def chunks(self, num: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """One rank's share of the first `num` images: chunks in [-1, 1], each with its place among all."""
        for index, start in list(enumerate(range(0, num, CHUNK)))[rank::world_size]:
            place = slice(start, min(start + CHUNK, num))
            yield place, self.sampler(place.stop - start, index)

    def keep(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What `compute` returns, computed at most once per key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


class Metric:
    """One or more numbers that compare generated images with real ones. All ranks call its methods together."""

    numbers: ClassVar[Mapping[str, Better]]
    """The names of its numbers and in which direction each is better. The first one leads: it chooses the best checkpoint."""

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Two metrics that call a number by the same name."""
        metrics: dict[str, str] = {}
        for metric, node in config.metric.items():
            for name in get_object(node._target_).numbers:
                if name in metrics:
                    raise ConfigurationError(f"metric=[{metrics[name]},{metric}]: both have a number called {name}; leave one of them out")
                metrics[name] = str(metric)

    def prepare(self, data: ImageData, device: torch.device) -> str | None:
        """Load what is needed for these data. Returns the reason where they cannot be scored."""

    def protocol(self) -> dict[str, Any]:
        """What two scores have to share to be comparable, as plain values."""
        raise NotImplementedError

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        """Each number by its name. With real images as `generated` these are the floors (the ceilings, where higher is better)."""
        raise NotImplementedError
