"""FID of the Inception network, with made-up weights: those of 2015 are not in the repository."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch_fidelity import feature_extractor_inceptionv3

from helpers.games import CPU, composed, small
from twoplayer.data.base import to_unit_range
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.metrics import inception
from twoplayer.metrics.base import Images
from twoplayer.metrics.inception import Inception, load_network, to_rgb
from twoplayer.metrics.scoring import Scoring


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with random weights, which is taken for that of 2015."""
    network = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with monkeypatch.context() as patched:
        patched.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *words, **settings: {})
        patched.setattr(network, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        torch.save(network("inception-v3-compat", ["2048"]).state_dict(), tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "SHA256_STARTS", digest[:8])
    return tmp_path / "weights.pth"


@pytest.mark.process
@pytest.mark.parametrize("layer", [64, pytest.param(2048, marks=pytest.mark.slow)])  # the first layer, and the one of FID
def test_it_is_the_distance_of_the_features(layer: int, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "NUM_FEATURES", layer)
    data = instantiate(small("data.image_size=16").data)
    metric, real = Inception(num_samples=12, weights=str(weights)), data.splits.test.images[:16]
    assert metric.prepare(data, CPU) is None
    samples = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = metric.compare(Images(lambda num, index: samples[:num]), Images.real(real, CPU))["fid_inception"]
    network = load_network(weights)
    sides = [network(to_rgb(images)).double().numpy() for images in (samples, to_unit_range(real))]
    one, other = ((side - side.mean(0)) / (len(side) - 1) ** 0.5 for side in sides)
    root = np.linalg.svd(one @ other.T, compute_uv=False).sum()  # the trace of the root of the product of covariances
    expected = ((sides[0].mean(0) - sides[1].mean(0)) ** 2).sum() + (one**2).sum() + (other**2).sum() - 2 * root
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_images_become_8_bit_rgb() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0, 1.5]).view(4, 1, 1, 1)
    assert to_rgb(images).shape == (4, 3, 1, 1)
    assert to_rgb(images)[:, 2].flatten().tolist() == [0, 128, 255, 255]
    assert torch.equal(to_rgb(torch.ones(2, 3, 4, 4)), torch.full((2, 3, 4, 4), 255, dtype=torch.uint8))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"does not hold the weights of Inception \(wrong sha256\)"):
        load_network(tmp_path / "weights.pth")
    with pytest.raises(ConfigurationError, match=r"metric\.inception\.weights=nowhere: there is no such file"):
        composed("metric=inception", "metric.inception.weights=nowhere")


def test_weights_that_cannot_be_had_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception, "ADDRESS", (tmp_path / "none.pth").as_uri())
    with pytest.raises(DataError, match=r"cannot be downloaded from .*; download them elsewhere and set metric\.inception\.weights=<file>"):
        Scoring({"inception": Inception(num_samples=12, weights=None)}, instantiate(small("data.image_size=16").data), CPU)


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"needs the package torch-fidelity; install it with uv sync --extra inception"):
        Inception.refuse(composed("metric=none"))
