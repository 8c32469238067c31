"""Precision and recall: against a computation without shortcuts, and where the answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.games import CPU, composed
from twoplayer.data.base import to_unit_range
from twoplayer.data.mnist import MNIST
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import CHUNK
from twoplayer.metrics.precision_recall import PrecisionRecall, precision_recall
from twoplayer.metrics.scoring import Scoring

NUM = 2000


def normal(num: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(seed))


def by_definition(generated: Tensor, real: Tensor, num_neighbors: int) -> tuple[float, float]:
    """One pair at a time, in float64."""

    def share(points: np.ndarray, others: np.ndarray) -> float:
        radii = []
        for index, center in enumerate(others):
            apart = sorted(float(np.linalg.norm(center - other)) for place, other in enumerate(others) if place != index)
            radii.append(apart[num_neighbors - 1])
        inside = [any(np.linalg.norm(point - other) <= radius for other, radius in zip(others, radii, strict=True)) for point in points]
        return sum(inside) / len(inside)

    one, other = generated.double().numpy(), real.double().numpy()
    return share(one, other), share(other, one)


@pytest.mark.parametrize("num_neighbors", [1, 3])
def test_the_numbers_are_those_of_the_definition(num_neighbors: int) -> None:
    generated, real = normal(170) * 0.8 + 0.5, normal(301, seed=1) + 30  # far from the origin, where float32 is coarse
    generated += 30
    found = precision_recall(generated, real, num_neighbors)
    assert found == pytest.approx(by_definition(generated, real, num_neighbors), abs=1e-12)
    assert 0.05 < min(found) < max(found) < 0.95


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        (lambda real: real, (1.0, 1.0)),
        (lambda real: real[:300], (1.0, 0.5)),  # the second mode is missing
        (lambda real: torch.cat([real, normal(200, seed=2) - 100]), (0.75, 1.0)),  # a third mode that is not real
        (lambda real: normal(600, seed=2) - 100, (0.0, 0.0)),
        (lambda real: real[:1].expand(600, -1) + 1e-3, (1.0, 0.0)),  # collapsed
    ],
    ids=["real", "mode missing", "mode too many", "noise", "collapse"],
)
def test_known_answers(generated: Callable[[Tensor], Tensor], expected: tuple[float, float]) -> None:
    real = torch.cat([normal(300), normal(300, seed=1) + 100])
    assert precision_recall(generated(real), real, 3) == expected


@pytest.fixture(scope="module")
def mnist(data_root: str) -> MNIST:
    return MNIST(
        root=data_root,
        batch_size=64,
        image_size=28,
        channels=1,
        num_classes=10,
        num_images=None,
        classes=None,
        num_labels=None,
        classifier="mnist",
    )


@pytest.mark.process
def test_images_that_are_missing_cost_recall_and_noise_costs_precision(mnist: MNIST) -> None:
    scoring = Scoring({"precision_recall": PrecisionRecall(num_samples=NUM, num_neighbors=3)}, mnist, CPU)

    def score(images: Tensor) -> dict[str, float]:
        chunks = images.split(CHUNK)
        return scoring.score(lambda num, index: chunks[index][:num], ["test"])["test"]

    split = mnist.splits.train
    images = to_unit_range(split.images[: 3 * NUM])
    real, noise = score(images[:NUM]), torch.randn(images[:NUM].shape, generator=torch.Generator().manual_seed(0))
    few = score(images[split.labels[: 3 * NUM] < 5][:NUM])
    noisy = score((images[:NUM] + 0.5 * noise).clamp(-1, 1))
    assert min(scoring.floors.values()) > 0.6
    assert real["precision"] > 0.6
    assert few["recall"] < 0.7 * real["recall"]
    assert few["precision"] > 0.9 * real["precision"]
    assert noisy["precision"] < 0.8 * real["precision"]
    assert score(noise.clamp(-1, 1)) == {"precision": 0.0, "recall": 0.0}


def test_fewer_samples_than_neighbours_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"num_samples=3: must be greater than metric\.precision_recall\.num_neighbors=3"):
        composed("metric=[precision_recall]", "metric.precision_recall.num_samples=3")
