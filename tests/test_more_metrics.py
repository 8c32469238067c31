"""Further metrics, each against a value that is computed in another way, or known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from helpers.games import CPU, composed, small
from twoplayer.data.base import to_unit_range
from twoplayer.data.mnist import MNIST
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import CHUNK, Images
from twoplayer.metrics.classes import Classes
from twoplayer.metrics.coverage import clipped_density, reached
from twoplayer.metrics.kid import KID, kernel_distance
from twoplayer.metrics.memorization import Memorization, memorized
from twoplayer.metrics.modes import mode_scores
from twoplayer.metrics.precision_recall import squared_radii
from twoplayer.metrics.scoring import Scoring
from twoplayer.metrics.sharpness import Sharpness, laplacian
from twoplayer.metrics.train_on_fake import TrainOnFake
from twoplayer.metrics.vendi import vendi_score


def normal(num: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def mnist(data_root: str) -> MNIST:
    data: MNIST = instantiate(composed(f"data.root='{data_root}'").data)
    return data


def sampler(images: Tensor) -> Callable[[int, int], Tensor]:
    return lambda num, index: images[index * CHUNK :][:num]


def test_the_kernel_distance_is_that_of_the_definition() -> None:
    one, other = normal(40) + 0.3, normal(40, seed=1)
    kernel = lambda a, b: (float(a @ b) / 8 + 1) ** 3  # noqa: E731
    within = [
        sum(kernel(x, y) for i, x in enumerate(side) for j, y in enumerate(side) if i != j) / (40 * 39)
        for side in (one.double(), other.double())
    ]
    across = sum(kernel(x, y) for x in one.double() for y in other.double()) / 40**2
    assert kernel_distance(one, other, 40) == pytest.approx(sum(within) - 2 * across, rel=1e-6)
    assert math.isfinite(kernel_distance(one, other, 39)), "a subset of the one remaining row would have no estimate"
    values = [kernel_distance(normal(400, seed=seed), normal(400, seed=seed + 100), 100) for seed in range(30)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(30)  # unbiased: 0 for equal distributions
    with pytest.raises(ConfigurationError, match=r"metric\.kid\.subset_size=20000: must not be greater"):
        composed("metric=[kid]", "metric.kid.subset_size=20000")


def test_sharpness_is_the_size_of_second_differences_relative_to_real_images() -> None:
    images = normal(30, 3 * 8 * 8).view(30, 3, 8, 8)
    expected = np.mean(
        [
            abs(plane[y - 1, x] + plane[y + 1, x] + plane[y, x - 1] + plane[y, x + 1] - 4 * plane[y, x])
            for plane in images.flatten(0, 1).double().numpy()
            for y in range(1, 7)
            for x in range(1, 7)
        ]
    )
    assert laplacian(images).abs().mean().item() == pytest.approx(expected, rel=1e-5)
    metric = Sharpness(num_samples=30)
    real = Images(sampler(images), 30)
    found = [metric.compare(Images(sampler(each)), real)["sharpness"] for each in (images, 0.5 * images, torch.full_like(images, 0.3))]
    assert found == pytest.approx([1, 0.5, 0], abs=1e-5)
    assert "no images" in str(Sharpness(num_samples=3).prepare(instantiate(composed("data=ring", "model=mlp").data), CPU))


def test_the_vendi_score_is_that_of_the_whole_matrix() -> None:
    features = normal(60)
    rows = (features / features.norm(dim=1, keepdim=True)).double().numpy()
    eigenvalues = np.linalg.eigvalsh(rows @ rows.T / 60)
    positive = eigenvalues[eigenvalues > 1e-12]
    assert vendi_score(features) == pytest.approx(math.exp(-(positive * np.log(positive)).sum()), rel=1e-6)
    assert vendi_score(features[:1].expand(60, -1)) == pytest.approx(1)
    assert vendi_score(torch.eye(8).repeat(5, 1)) == pytest.approx(8)


def test_density_and_coverage_are_those_of_the_definition() -> None:
    fake, real, k = normal(50) * 0.7, normal(70, seed=1), 3
    distances = torch.cdist(real.double(), real.double())
    radii = distances.sort(dim=1).values[:, k]
    held = (torch.cdist(fake.double(), real.double()) <= radii.clamp(max=radii.median())).sum(1)
    assert clipped_density(fake, real, squared_radii(real, k), k) == pytest.approx(float((held / k).clamp(max=1).mean()))
    covers = (torch.cdist(fake.double(), real.double()) <= radii).any(0)
    assert reached(fake, real, squared_radii(real, k)) == pytest.approx(float(covers.double().mean()))


def test_one_outlier_among_real_images_does_not_raise_density() -> None:
    real = torch.cat([normal(100), torch.full((1, 8), 1000.0)])
    assert clipped_density(normal(50, seed=2) + 300, real, squared_radii(real, 3), 3) == 0


def test_copies_are_found_and_others_are_not() -> None:
    train = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    others = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert memorized(to_unit_range(train[:50]) + 0.01, train) == 1
    flat, flat_others = (to_unit_range(images).flatten(1).double() for images in (train, others[:50]))
    distances = torch.cdist(flat_others, flat)
    own = torch.cdist(flat, flat).fill_diagonal_(torch.inf).amin(1)
    expected = float((distances.amin(1) < own[distances.argmin(1)]).double().mean())
    assert memorized(to_unit_range(others[:50]), train) == pytest.approx(expected)
    assert 0 < expected < 1


def test_samples_of_the_training_split_are_memorized_and_the_test_split_is_the_control(mnist: MNIST) -> None:
    scoring = Scoring({"memorization": Memorization(num_samples=64)}, mnist, CPU)
    assert scoring.floors == {}
    found = scoring.score(sampler(to_unit_range(mnist.splits.train.images[:64])), ["test"])["test"]
    assert found["memorized"] == 1
    assert 0.1 < found["memorized_test"] < 0.6


def test_shares_of_classes_are_counted(mnist: MNIST) -> None:
    images, labels = mnist.splits.test
    scoring = Scoring({"classes": Classes(num_samples=500)}, mnist, CPU)
    threes = to_unit_range(images[labels == 3][:500])
    found = scoring.score(sampler(threes), ["test"])["test"]
    share = float((labels == 3).double().mean())
    assert found["class_tv"] == pytest.approx(1 - share, abs=0.02)
    assert found["class_kl"] == pytest.approx(-math.log(share), abs=0.1)
    assert found["effective_classes"] == pytest.approx(1, abs=0.1)
    assert scoring.floors["effective_classes"] == pytest.approx(10, abs=0.1)
    assert scoring.floors["class_kl"] < 0.01


@pytest.mark.slow
def test_a_classifier_learns_from_real_images_and_not_from_noise_or_one_class(mnist: MNIST) -> None:
    metric = TrainOnFake(num_samples=1000, iterations=60, batch_size=64)
    scoring = Scoring({"train_on_fake": metric}, mnist, CPU)
    images, labels = mnist.splits.train
    good = scoring.score(sampler(to_unit_range(images[:1000])), ["test"])["test"]["train_on_fake"]
    one_class = scoring.score(sampler(to_unit_range(images[labels == 3][:1000])), ["test"])["test"]["train_on_fake"]
    assert good > 0.85
    assert one_class < 0.2
    told = Images(sampler(to_unit_range(images[:1000])), classes=lambda num, index: (labels[index * CHUNK :][:num] + 1) % 10, labelled=True)
    assert scoring.score_images(told, "test")["train_on_fake"] < 0.1, "labels that G was told count, not the classifier's answers"


CENTERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_modes_are_counted_and_both_faults_seen() -> None:
    even = CENTERS.repeat(250, 1)
    found = mode_scores(even, CENTERS, 1.0)
    assert (found["modes"], found["high_quality"]) == (4, 1)
    assert found["reverse_kl"] == pytest.approx(0, abs=1e-12)
    one = mode_scores(CENTERS[:1].repeat(1000, 1), CENTERS, 1.0)
    assert one["modes"] == 1
    assert one["reverse_kl"] == pytest.approx(math.log(4))
    assert one["mode_error"] == pytest.approx(math.log(4), abs=0.02)
    between = mode_scores(even + 4.0, CENTERS, 1.0)
    assert (between["modes"], between["high_quality"]) == (0, 0)
    assert between["reverse_kl"] == pytest.approx(0, abs=1e-12), "it does not see quality"
    assert between["mode_error"] > 4


def test_real_points_score_what_theory_says(tmp_path: object) -> None:
    config = composed("data=grid", "model=mlp")
    data = instantiate(config.data)
    assert [*config.metric] == ["modes"]
    scoring = Scoring({name: instantiate(node) for name, node in config.metric.items()}, data, CPU)
    assert scoring.floors["modes"] == 25
    assert scoring.floors["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.006)  # 98.89 %
    assert scoring.floors["mode_error"] < 0.02
    other = Scoring({"modes": instantiate(config.metric.modes)}, instantiate(small("data.image_size=16").data), CPU)
    assert other.metrics == {}
    assert "modes can be counted only where they are known" in other.reasons["modes"]


def test_kid_has_a_floor_near_zero(mnist: MNIST) -> None:
    floor = Scoring({"kid": KID(num_samples=10_000, subset_size=1000)}, mnist, CPU).floors["kid"]
    noise = kernel_distance(normal(2000, 128) * 10, normal(2000, 128, 1), 1000)
    assert abs(floor) < noise / 10
