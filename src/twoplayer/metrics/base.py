"""The base class of metrics, which compare generated images with real ones."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from twoplayer.data.base import Data, to_unit_range

CHUNK = 500
"""The number of images that are generated and scored at a time."""

Reference = Literal["validation", "test"]
Better = Literal["lower", "higher"]
Sampler = Callable[[int, int], Tensor]
"""(number of images N, index of the chunk) to the images of this chunk (N, C, H, W) in [-1, 1]."""
Meaning = Literal["labels", "codes"]
"""What the classes of samples are: labels that G was told, or codes in its latents."""
Classes = Callable[[int, int], Tensor]
"""(number of images N, index of the chunk) to the classes of this chunk (N)."""
Kept = TypeVar("Kept")


class Images:
    """Images in chunks, of a real split or of a generator in its present state.

    `keep` shares what one metric computes with the others. `num` is None for a generator, whose
    number of images has no limit. `classes` are those of the images, where they have any;
    `labelled` says that they are labels of the data, not codes. `stored` are the images of a real
    split as the data store them, for a metric that picks some of them.
    """

    def __init__(
        self,
        sampler: Sampler,
        num: int | None = None,
        classes: Classes | None = None,
        stored: Tensor | None = None,
        labelled: bool = False,
    ) -> None:
        self.sampler, self.num, self._classes, self.stored, self.labelled = sampler, num, classes, stored, labelled
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def real(cls, images: Tensor, device: torch.device, labels: Tensor | None = None) -> "Images":
        """From images of a split (N, C, H, W) and their labels (N)."""

        def part(values: Tensor, num: int, index: int) -> Tensor:
            return values[index * CHUNK :][:num].to(device)

        classes = None if labels is None else partial(part, labels)
        return cls(lambda num, index: to_unit_range(part(images, num, index)), len(images), classes, images, labels is not None)

    def chunks(self, num: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Chunks in [-1, 1] of the first `num` images, each with its slice: one rank's share."""
        for index, start in list(enumerate(range(0, num, CHUNK)))[rank::world_size]:
            place = slice(start, min(start + CHUNK, num))
            yield place, self.sampler(place.stop - start, index)

    def classes(self, num: int) -> Tensor:
        """The classes (num) of the first `num` images."""
        assert self._classes is not None
        places = (slice(start, min(start + CHUNK, num)) for start in range(0, num, CHUNK))
        return torch.cat([self._classes(place.stop - place.start, index) for index, place in enumerate(places)])

    def keep(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What `compute` returns, computed at most once per key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


class Metric:
    """One or more numbers that compare generated images with real ones.

    All ranks call its methods together.
    """

    numbers: ClassVar[Mapping[str, Better]]
    """The names of its numbers, and the direction in which each is better.

    The first number of the first metric is the leading one: it selects the best checkpoint.
    """

    needs: ClassVar[Meaning | None] = None
    """The classes of samples that it needs, if any."""

    has_floor: ClassVar[bool] = True
    """The score of real images as samples has a meaning."""

    def prepare(self, data: Data, device: torch.device) -> str | None:
        """Load what these data need. Returns a reason if they cannot be scored, else None."""

    def protocol(self) -> dict[str, Any]:
        """The settings that two scores must share to be comparable, as plain values."""
        raise NotImplementedError

    def interval(self, value: float) -> tuple[float, float] | None:
        """The 95 % interval of a number that it returned, if it is known without repetitions."""
        return None

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        """Each number by its name.

        With real images as `generated` these are the floors (ceilings where higher is better). A
        floor may be zero or negative; then no ratio to it is shown.
        """
        raise NotImplementedError
