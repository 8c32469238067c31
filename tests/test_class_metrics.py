"""Metrics of conditional generators and of codes: formulas, faults in doses, and what they need."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.games import CPU, composed
from twoplayer.data.mnist import MNIST
from twoplayer.metrics.base import CHUNK, Images
from twoplayer.metrics.class_fd import ClassFD
from twoplayer.metrics.code_accuracy import CodeAccuracy, matched_share
from twoplayer.metrics.fd import frechet_distance
from twoplayer.metrics.label_accuracy import LabelAccuracy
from twoplayer.metrics.scoring import Scoring

NUM = 500


@pytest.fixture(scope="module")
def mnist(data_root: str) -> MNIST:
    from hydra.utils import instantiate

    data: MNIST = instantiate(composed(f"data.root='{data_root}'").data)
    return data


@pytest.fixture(scope="module")
def scorings(mnist: MNIST) -> dict[str, Scoring]:
    accuracy: dict[str, Any] = {"label_accuracy": LabelAccuracy(num_samples=NUM)}
    distance: dict[str, Any] = {"class_fd": ClassFD(num_samples=NUM)}
    codes: dict[str, Any] = {"code_accuracy": CodeAccuracy(num_samples=NUM)}
    return {
        "labels": Scoring(accuracy, mnist, CPU, "labels"),
        "distance": Scoring(distance, mnist, CPU, "labels"),
        "codes": Scoring(codes, mnist, CPU, "codes"),
        "none": Scoring(accuracy | distance | codes, mnist, CPU),
    }


def score(scoring: Scoring, images: Tensor, classes: Tensor) -> dict[str, float]:
    """Of images in the training range, which stand in for samples."""
    place = lambda values: lambda num, index: values[index * CHUNK :][:num]  # noqa: E731
    return scoring.score(place(images), ["test"], place(classes))["test"]


def test_codes_are_matched_with_classes_one_to_one() -> None:
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    assert matched_share(torch.tensor([2, 2, 0, 0, 1, 1]), classes) == 1
    assert matched_share(torch.tensor([2, 2, 0, 0, 1, 0]), classes) == pytest.approx(5 / 6)
    assert matched_share(torch.zeros(6, dtype=torch.int64), classes) == pytest.approx(2 / 6)
    assert matched_share(torch.tensor([0, 1, 2, 3, 4, 5]), classes) == pytest.approx(3 / 6)


def test_wrong_labels_cost_as_many_points_as_there_are(mnist: MNIST, scorings: dict[str, Scoring]) -> None:
    images, labels = mnist.held_out(0, NUM, CPU)
    right = score(scorings["labels"], images, labels)["label_accuracy"]
    assert right > 0.98
    for share in (0.1, 0.5, 1.0):
        wrong = torch.where(torch.arange(NUM) < share * NUM, (labels + 1) % 10, labels)
        assert score(scorings["labels"], images, wrong)["label_accuracy"] == pytest.approx((1 - share) * right, abs=0.02)


def test_codes_in_another_order_are_as_good_as_labels(mnist: MNIST, scorings: dict[str, Scoring]) -> None:
    images, labels = mnist.held_out(0, NUM, CPU)
    assert score(scorings["codes"], images, (labels + 3) % 10)["code_accuracy"] > 0.98
    assert score(scorings["codes"], images, torch.arange(NUM) % 10)["code_accuracy"] < 0.2


def test_the_distance_within_classes_sees_exchanged_classes(mnist: MNIST, scorings: dict[str, Scoring]) -> None:
    images, labels = mnist.held_out(0, NUM, CPU)
    scoring = scorings["distance"]
    distances = [
        score(scoring, images, torch.where(torch.arange(NUM) < share * NUM, (labels + 1) % 10, labels))["class_fd"]
        for share in (0.0, 0.3, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[2] > 3 * distances[0]


def test_the_distance_within_classes_is_the_mean_over_classes(scorings: dict[str, Scoring], monkeypatch: pytest.MonkeyPatch) -> None:
    metric = ClassFD(num_samples=60)
    one, other = torch.randn(60, 4), torch.randn(80, 4)
    monkeypatch.setattr(metric, "features", lambda images: one if images.num is None else other)
    classes = torch.arange(80) % 2
    found = metric.compare(
        Images(lambda num, index: one, classes=lambda num, index: classes[:num]),
        Images(lambda num, index: other, 80, lambda num, index: classes[:num]),
    )
    expected = [frechet_distance(one[classes[:60] == number], other[classes == number]) for number in (0, 1)]
    assert found["class_fd"] == pytest.approx(sum(expected) / 2)


def test_what_a_generator_does_not_have_is_said(scorings: dict[str, Scoring]) -> None:
    assert scorings["none"].reasons == {
        "label_accuracy": "the generator has no labels",
        "class_fd": "the generator has no labels",
        "code_accuracy": "the generator has no codes",
    }
    assert scorings["labels"].floors["label_accuracy"] > 0.99
    assert scorings["codes"].floors["code_accuracy"] > 0.99
