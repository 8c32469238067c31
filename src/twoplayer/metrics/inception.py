"""The Fréchet distance of the Inception network of 2015, which most papers report as FID.

The network was trained on photographs, and sees digits as gray photographs. Its scores compare with
no `fd` of this project, and with published ones only if samples and real images are as many.
"""

import hashlib
import importlib.util
import io
import logging
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.data.base import Data
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.metrics.base import Images, Metric
from twoplayer.metrics.fd import frechet_distance
from twoplayer.metrics.feature_metric import over_ranks
from twoplayer.paths import replacing

log = logging.getLogger(__name__)

ADDRESS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256_STARTS = "6726825d"
"""The start of the sha256 of the weights, which is in their name."""
NUM_FEATURES = 2048
BATCH = 50
CONNECT_SECONDS = 10


class Inception(Metric):
    """FID: the Fréchet distance of `num_samples` samples and all images of a split.

    `weights` is the file with the weights of torch-fidelity's network; null looks in the cache of
    torch.hub, and downloads it there. Images are shown as 8-bit RGB, resized to 299 x 299 as in the
    first implementation.
    """

    numbers = {"fid_inception": "lower"}

    def __init__(self, *, num_samples: Annotated[int, Ge(2)], weights: str | None) -> None:
        self.num_samples, self.weights = num_samples, weights
        self._network: Callable[[Tensor], Tensor]
        self._device: torch.device

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a missing package or file."""
        if importlib.util.find_spec("torch_fidelity") is None:
            raise ConfigurationError("metric=inception: needs the package torch-fidelity; install it with uv sync --extra inception")
        weights = config.metric.inception.weights
        if weights is not None and not Path(weights).is_file():
            raise ConfigurationError(f"metric.inception.weights={weights}: there is no such file; null downloads it")

    def prepare(self, data: Data, device: torch.device) -> str | None:
        shape = data.splits.test.images.shape[1:]
        if len(shape) != 3 or shape[0] not in (1, 3):
            return "Inception sees images of one or three channels only"
        path = Path(self.weights) if self.weights is not None else Path(torch.hub.get_dir()) / "checkpoints" / Path(ADDRESS).name
        if self.weights is None and not path.exists():
            _download(path)  # by each rank that finds none
        self._network, self._device = load_network(path).to(device), device
        return None

    def protocol(self) -> dict[str, Any]:
        return {
            "num_samples": self.num_samples,
            "features": f"Inception of 2015 by torch-fidelity, pool of {NUM_FEATURES}",
            "features_sha256": SHA256_STARTS,
            "resize": "to 299 x 299, bilinear as in TensorFlow 1",
        }

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {"fid_inception": frechet_distance(self._features(generated), self._features(real))}

    def _features(self, images: Images) -> Tensor:
        num = self.num_samples if images.num is None else images.num
        return images.keep(("inception", num), lambda: over_ranks(images, num, self._extract, NUM_FEATURES, self._device))

    def _extract(self, chunk: Tensor) -> Tensor:
        """The features of a chunk, in batches, since 299 x 299 pixels take much memory."""
        return torch.cat([self._network(to_rgb(part)) for part in chunk.to(self._device).split(BATCH)])


class _Pool(nn.Module):
    """The network, with its features as the only output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.network(images)[0]
        return features


def load_network(path: Path) -> nn.Module:
    """The network with the weights of a file; uint8 images (N, 3, H, W) to features (N, 2048).

    Raises DataError if they are not the weights of 2015.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not hashlib.sha256(content).hexdigest().startswith(SHA256_STARTS):
        raise DataError(
            f"{path} does not hold the weights of Inception (wrong sha256); set metric.inception.weights to {Path(ADDRESS).name}"
        )
    torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)  # the package itself would run code in it
    return _Pool(FeatureExtractorInceptionV3("inception-v3-compat", [str(NUM_FEATURES)], feature_extractor_weights_path=str(path)))


def to_rgb(images: Tensor) -> Tensor:
    """Images (N, 1 or 3, H, W) in [-1, 1] to 8-bit RGB (N, 3, H, W)."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def _download(path: Path) -> None:
    """Download the weights, of 91 MiB. Raises DataError if they cannot be had."""
    log.info("downloading the weights of Inception to %s", path)
    try:
        with urllib.request.urlopen(ADDRESS, timeout=CONNECT_SECONDS) as answer:
            content = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"the weights of Inception cannot be downloaded from {ADDRESS} ({getattr(error, 'reason', error)}); "
            "download them elsewhere and set metric.inception.weights=<file>"
        ) from error
