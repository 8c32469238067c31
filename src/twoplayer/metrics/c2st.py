"""The classifier two-sample test (Lopez-Paz and Oquab, 2017, arXiv:1610.06545)."""

import logging
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import softplus

from twoplayer import pictures, randomness
from twoplayer.data.base import Batches, Data, Split, to_unit_range
from twoplayer.distributed import ranks
from twoplayer.metrics.base import Images, Metric

log = logging.getLogger(__name__)

FEWEST = 4
"""Two to train on, two held out."""
FEW = 1000
"""With fewer images the score says little, and a warning says so."""
DEVIATIONS = 1.959964
"""Of a normal distribution, on both sides of the mean, which hold 95 %."""


class C2ST(Metric):
    """The accuracy of a fresh discriminator on samples and real images that it has not seen.

    It is trained on half of `num_samples` samples and half of as many real images, and tells the
    other halves apart. 0.5 is perfect: nothing that it could learn distinguishes the two. A split
    with fewer images than `num_samples` sets the number for all scores. Samples that are not
    finite, or all equal, score 1.

    It takes data of any shape, with or without labels. Everything random depends on a fixed seed,
    so the same samples have the same score.
    """

    numbers = {"c2st": "lower"}

    def __init__(
        self,
        *,
        num_samples: Annotated[int, Ge(FEWEST)],
        iterations: Annotated[int, Ge(1)],
        batch_size: Annotated[int, Ge(2)],
        lr: Annotated[float, Gt(0)],
    ) -> None:
        self.num_samples, self.iterations, self.batch_size, self.lr = num_samples, iterations, batch_size, lr
        self._num = 0
        self._like: Tensor
        self._device: torch.device

    def prepare(self, data: Data, device: torch.device) -> str | None:
        present = {name: len(getattr(data.splits, name).images) for name in ("validation", "test")}
        smallest = min(present, key=lambda name: present[name])
        if present[smallest] < FEWEST:
            return f"the {smallest} split has {present[smallest]} images, and {FEWEST} are the least"
        self._num = min(self.num_samples, present[smallest]) // 2 * 2
        if present[smallest] < min(FEW, self.num_samples) and ranks.rank() == 0:
            log.warning(
                "c2st compares only %d images, as many as the %s split has: its 95 %% interval is about +- %.2f",
                self._num,
                smallest,
                self._num**-0.5,
            )
        self._like, self._device = data.splits.test.images[:0], device
        return None

    def protocol(self) -> dict[str, Any]:
        return {
            "num_samples": self._num,
            "discriminator": f"{self.iterations} iterations, batches of {self.batch_size}, learning rate {self.lr:g}",
            "held_out": self._num,
        }

    def interval(self, value: float) -> tuple[float, float]:
        return wilson(value, self._num)

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        samples, images = self._drawn(generated), self._drawn(real)
        if samples is None or images is None or ((samples == samples[0]).all() and not (images == samples[0]).all()):
            return {"c2st": 1.0}
        return {"c2st": held_out_accuracy(samples, images, iterations=self.iterations, batch_size=self.batch_size, lr=self.lr)}

    def _drawn(self, images: Images) -> Tensor | None:
        """As many images as are compared, as the data store them; None if one is not finite.

        Of a real split they are drawn at random, since its order may mean something: the first half
        of MNIST's test split is easier than the second.
        """
        if images.stored is None:
            return images.keep(("c2st", self._num), lambda: self._over_ranks(images))
        order = torch.randperm(len(images.stored), generator=randomness.generator("cpu", 0, "c2st", "images"))
        return images.stored[order[: self._num]].to(self._device)

    def _over_ranks(self, images: Images) -> Tensor | None:
        """The samples of all ranks, each of which makes its own chunks.

        Where the data have 8 bits, samples are rounded to 8 bits, as in a picture: the
        discriminator must not find them by their rounding.
        """
        own = torch.zeros(self._num, *self._like.shape[1:], dtype=self._like.dtype, device=self._device)
        finite = torch.ones((), device=self._device)
        for place, chunk in images.chunks(self._num, ranks.rank(), ranks.world_size()):
            finite *= chunk.isfinite().all()
            own[place] = pictures.to_uint8(chunk) if own.dtype == torch.uint8 else chunk
        parts = ranks.gather(own)
        return torch.stack(parts).sum(0, dtype=own.dtype) if float(ranks.mean(finite)) == 1 else None


def held_out_accuracy(samples: Tensor, images: Tensor, *, iterations: int, batch_size: int, lr: float) -> float:
    """Of a discriminator trained on the first halves of two sets (N, ...), on the second halves.

    Each batch has as many of either. The discriminator is trained in float32. A training that
    diverges scores 1: numbers so large are none of real images.
    """
    device, half = samples.device, len(samples) // 2
    with randomness.aside(device), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        randomness.restart(0, "c2st", "weights")
        discriminator = network(samples.shape[1:]).to(device)
        optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr, fused=True)
        fake, real = (_batches(part[:half], batch_size // 2, place) for place, part in {"samples": samples, "images": images}.items())
        for iteration in range(iterations):
            logits = discriminator(torch.cat([fake.batch(iteration)[0], real.batch(iteration)[0]])).view(2, -1)
            optimizer.zero_grad()
            (softplus(-logits[0]) + softplus(logits[1])).mean().backward()
            optimizer.step()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        fakes, reals = (
            torch.cat([discriminator(to_unit_range(chunk)) for chunk in part[half:].split(batch_size)]) for part in (samples, images)
        )
    if not (fakes.isfinite().all() and reals.isfinite().all()):
        return 1.0
    return float((fakes > 0).double().mean() + (reals <= 0).double().mean()) / 2


def network(shape: Sequence[int]) -> nn.Module:
    """A small discriminator of examples of this shape.

    Images get strided convolutions down to about 4 x 4, of twice the width after each, 16 to 128.
    Other examples get two hidden layers.
    """
    layers: list[nn.Module] = []
    channels, *sides = shape
    if len(sides) == 2 and min(sides) >= 8:
        width = 16
        while min(sides) > 4:
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels, width, sides = width, min(2 * width, 128), [side // 2 for side in sides]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sides), 1))
    size = math.prod(shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))


def wilson(share: float, num: int) -> tuple[float, float]:
    """The 95 % interval of a share of `num` independent trials (Wilson, 1927)."""
    square = DEVIATIONS**2 / num
    center, spread = share + square / 2, math.sqrt(square * (share * (1 - share) + square / 4))
    return (center - spread) / (1 + square), (center + spread) / (1 + square)


def _batches(images: Tensor, num: int, place: str) -> Batches:
    labels = torch.zeros(len(images), dtype=torch.int64)
    return Batches(Split(images, labels), num, 0, images.device, place=f"c2st {place}")
