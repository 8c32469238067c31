"""How sharp images are: blur is what autoencoders are known for."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import conv2d

from twoplayer.data.base import Data
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import Images, Metric

LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class Sharpness(Metric):
    """The mean size of the Laplacian of samples, relative to that of real images.

    1 is as sharp as real images; blurred samples have less, and noisy ones more.
    """

    numbers = {"sharpness": "higher"}

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse it as the leading score: 1 is best, and the noisiest samples have the most."""
        if next(iter(config.metric)) == "sharpness":
            others = ",".join(["fd", *(str(name) for name in config.metric if name not in ("fd", "sharpness"))])
            raise ConfigurationError(
                f"metric=[{','.join(map(str, config.metric))}]: sharpness is best at 1, so it cannot choose a checkpoint; set 'metric=[{others},sharpness]'"
            )

    def __init__(self, *, num_samples: Annotated[int, Ge(1)]) -> None:
        self.num_samples = num_samples

    def prepare(self, data: Data, device: torch.device) -> str | None:
        if data.splits.test.images.ndim != 4:
            return "the data are no images"
        return None

    def protocol(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {"sharpness": self._size(generated) / self._size(real)}

    def _size(self, images: Images) -> float:
        num = self.num_samples if images.num is None else images.num
        return images.keep(
            ("sharpness", num),
            lambda: sum(float(laplacian(chunk).double().abs().mean()) * len(chunk) for _, chunk in images.chunks(num)) / num,
        )


def laplacian(images: Tensor) -> Tensor:
    """The second differences (N, C, H - 2, W - 2) of images, by each pixel's four neighbours."""
    kernel = torch.tensor(LAPLACE, device=images.device)[None, None]
    flat = images.float().flatten(0, 1)[:, None]
    return conv2d(flat, kernel).unflatten(0, images.shape[:2])[:, :, 0]
