"""Schedules of learning rates, Adam's betas, penalty weights and EMA's half-life.

R3GAN changes them together (Huang et al., 2024, arXiv:2501.05441). The cosine is that of Loshchilov
and Hutter (2017, arXiv:1608.03983).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.errors import ConfigurationError, unknown
from twoplayer.settings import leaves
from twoplayer.tricks.base import Trick, numbers

Shape = Literal["constant", "linear", "cosine"]

OPTIMIZER_NUMBERS = ("lr", "beta1", "beta2")


class Schedule(Trick):
    """Changes each number in `to` from its first value to the value given there.

    It starts at `begin_images` and ends at `end_images`, in real images seen.
    """

    def __init__(
        self, *, shape: Shape, begin_images: Annotated[int, Ge(0)], end_images: Annotated[int, Gt(0)], to: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.shape, self._begin, self._end = shape, begin_images, end_images
        self._first: dict[str, float] = {}
        self._last = dict(leaves(to))

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse unknown names, invalid values, and an end that is not after the beginning."""
        node = config.trick.schedule
        known = _numbers(config)
        for name, value in leaves(node.to):
            if name not in known:
                raise ConfigurationError(unknown(f"trick.schedule.to.{name}", [f"trick.schedule.to.{other}" for other in known]))
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigurationError(f"trick.schedule.to.{name}={value}: must be a number, 0 or more")
            if name.partition(".beta")[1] and value >= 1:
                raise ConfigurationError(f"trick.schedule.to.{name}={value}: must be less than 1")
        if node.begin_images >= node.end_images:
            raise ConfigurationError(
                f"trick.schedule.begin_images={node.begin_images}: must be less than trick.schedule.end_images={node.end_images}, which is budget.images by default"
            )

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        share = self._share(images_seen)
        for name, last in self._last.items():
            if name not in numbers:  # of a discriminator, in a family without one
                continue
            first = self._first.setdefault(name, float(numbers[name]))
            numbers[name].fill_(first + share * (last - first))

    def get_extra_state(self) -> dict[str, float]:
        """The first values, which cannot be read from a checkpoint's current values."""
        return self._first

    def set_extra_state(self, state: dict[str, float]) -> None:
        self._first = state

    def _share(self, images_seen: int) -> float:
        """The share of the change that is done, from 0 to 1."""
        passed = min(max((images_seen - self._begin) / (self._end - self._begin), 0.0), 1.0)
        return {"constant": 0.0, "linear": passed, "cosine": (1 - math.cos(math.pi * passed)) / 2}[self.shape]


def _numbers(config: DictConfig) -> list[str]:
    """The names of the numbers that a schedule may change with this configuration."""
    optimizers = [
        f"optimizer.{player}.{name}"
        for player in ("generator", "discriminator")
        for name in OPTIMIZER_NUMBERS
        if name in config.optimizer[player]
    ]
    tricks = [
        f"trick.{key}.{name}" for key, node in config.trick.items() if node and key != "schedule" for name in numbers(instantiate(node))
    ]
    return optimizers + tricks
