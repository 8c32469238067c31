"""The features and the score: what they are, and that they move when samples get worse."""

import math
from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.faults import FAULTS
from helpers.games import CPU, composed
from twoplayer.callbacks.scores import Scores
from twoplayer.data.base import Split, to_unit_range
from twoplayer.data.fashion_mnist import FashionMNIST
from twoplayer.data.mnist import MNIST
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.metrics import features, recorded
from twoplayer.metrics.base import CHUNK
from twoplayer.metrics.fd import FD
from twoplayer.metrics.scoring import Scoring

pytestmark = pytest.mark.process

NUM = 2000


def data(kind: type[MNIST], root: str) -> MNIST:
    classifier = "mnist" if kind is MNIST else "fashion_mnist"
    return kind(
        root=root,
        batch_size=64,
        image_size=28,
        channels=1,
        num_classes=10,
        num_images=None,
        classes=None,
        num_labels=None,
        classifier=classifier,
    )


@pytest.fixture(scope="module")
def mnist(data_root: str) -> MNIST:
    return data(MNIST, data_root)


@pytest.fixture(scope="module")
def distance(mnist: MNIST) -> Scoring:
    scoring = Scoring({"fd": FD(num_samples=NUM)}, mnist, CPU)
    assert not scoring.reasons
    return scoring


def score(scoring: Scoring, images: Tensor, name: str = "fd") -> float:
    chunks = images.split(CHUNK)
    return scoring.score(lambda num, index: chunks[index][:num], ["test"])["test"][name]


@pytest.mark.parametrize(("kind", "name", "wanted"), [(MNIST, "mnist", 0.99), (FashionMNIST, "fashion_mnist", 0.90)])
def test_the_classifier_is_as_good_as_it_says(kind: type[MNIST], name: str, wanted: float, data_root: str) -> None:
    classifier, split = features.load_features(name).classifier, data(kind, data_root).splits.test
    with torch.inference_mode():
        right = torch.cat([classifier(to_unit_range(images)).argmax(1) for images in split.images.split(1000)]) == split.labels
    assert float(right.float().mean()) >= wanted


def test_the_features_never_train() -> None:
    extractor = features.load_features("mnist").train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert extractor(torch.randn(2, 1, 28, 28)).dtype == torch.float32
    assert extractor(torch.randn(2, 1, 32, 32)).shape == (2, features.NUM_FEATURES)


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features.CHECKSUMS, "mnist", "0" * 64)
    with pytest.raises(DataError, match="sha256"):
        features.load_features("mnist")


def test_the_distance_is_that_of_the_formula(distance: Scoring, mnist: MNIST) -> None:
    extract = features.load_features("mnist")
    fakes = to_unit_range(mnist.splits.train.images[:NUM]) * 0.8
    one = extract(fakes).double().numpy()
    other = torch.cat([extract(to_unit_range(chunk)) for chunk in mnist.splits.test.images.split(500)]).double().numpy()
    covariances = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T  # tr sqrt(AB) = tr sqrt(sqrt(A) B sqrt(A)), which is symmetric
    overlap = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * overlap
    assert score(distance, fakes) == pytest.approx(float(expected), rel=1e-3)


def test_scores_do_not_remember_earlier_samples(distance: Scoring, mnist: MNIST) -> None:
    real = to_unit_range(mnist.splits.train.images[:NUM])
    first = score(distance, real)
    score(distance, torch.zeros_like(real))
    assert score(distance, real) == first


def test_the_floor_is_far_below_anything_wrong(distance: Scoring, mnist: MNIST) -> None:
    real = to_unit_range(mnist.splits.train.images[:NUM])
    assert distance.floors["fd"] < score(distance, real) * 3
    assert score(distance, torch.zeros_like(real)) > 500 * distance.floors["fd"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_score_climbs_the_ladder(fault: Callable[[Tensor, Tensor, int, int], Tensor], distance: Scoring, mnist: MNIST) -> None:
    split: Split = mnist.splits.train
    images, labels = to_unit_range(split.images[: 3 * NUM]), split.labels[: 3 * NUM]
    clean = score(distance, images[:NUM])
    doses = [score(distance, fault(images, labels, dose, NUM)) for dose in range(3)]
    assert [clean, *doses] == sorted([clean, *doses])
    assert doses[0] > 1.02 * clean
    assert doses[2] > 3 * clean


def test_metrics_share_one_set_of_samples(mnist: MNIST) -> None:
    scoring = Scoring({name: FD(num_samples=700) for name in ("one", "other")}, mnist, CPU)
    asked: list[tuple[int, int]] = []

    def sample(num: int, index: int) -> Tensor:
        asked.append((num, index))
        return to_unit_range(mnist.splits.train.images[index * CHUNK :][:num])

    scoring.score(sample, ["validation", "test"])
    assert asked == [(500, 0), (200, 1)]


def test_features_that_tell_nothing_apart_are_an_error(mnist: MNIST, monkeypatch: pytest.MonkeyPatch) -> None:
    for spoiled in (0.0, torch.nan):
        monkeypatch.setattr(
            features.FeatureExtractor, "forward", lambda self, images, spoiled=spoiled: torch.full((len(images), 128), spoiled)
        )
        with pytest.raises(DataError, match="not finite, or the same for all real images"):
            Scoring({"fd": FD(num_samples=NUM)}, mnist, CPU)


def test_the_number_of_classes_is_that_of_the_weights() -> None:
    assert features.load_features("mnist").classifier.logits[-1].out_features == 10
    with pytest.raises(ConfigurationError, match=r"data.classifier=mnst: .*did you mean"):
        features.load_features("mnst")


def test_two_metrics_of_one_number_are_refused() -> None:
    again = "+metric.again={_target_:twoplayer.metrics.fd.FD,num_samples:10}"
    with pytest.raises(ConfigurationError, match=r"metric=\[fd,again\]: both have a number called fd; leave one of them out"):
        composed(again)


@pytest.mark.parametrize("word", ["metric=none", "metric=[]"])
def test_scores_can_be_switched_off(word: str) -> None:
    assert composed(word).metric == {}


def test_the_first_metric_leads_whatever_its_direction() -> None:
    assert list(composed("metric=[precision_recall,fd]").metric) == ["precision_recall", "fd"]
    entries = {"precision": {"better": "higher", "validation": 0.5}, "fd": {"better": "lower", "validation": 20.0}}
    assert recorded.objective({"scores": entries}) == -0.5
    assert recorded.objective({"scores": dict(reversed(entries.items()))}) == 20.0
    assert recorded.objective({"scores": {}}) is None


def test_a_floor_below_zero_has_no_ratio() -> None:
    entry = {"value": 8.0, "validation": 9.0, "untrained": 70.0, "floor": -0.5, "better": "lower"}
    (score,) = recorded.read({"scores": {"unbiased": entry}})
    assert (score.ratio(8.0), score.times_floor(8.0)) == ("", "")
    assert score.line() == "unbiased, on the test split 8.00   floor -0.500, untrained 70.0"
    (score,) = recorded.read({"scores": {"unbiased": {**entry, "floor": 4.0}}})
    assert score.line() == "unbiased, on the test split 8.00   2.0 x its floor of 4.00, untrained 70.0"
    (score,) = recorded.read({"scores": {"share": {**entry, "value": 0.9, "untrained": 1, "floor": 0.5, "interval": [0.85, 0.94]}}})
    assert score.line() == "share, on the test split 0.900   95 % interval 0.850 to 0.940, floor 0.500, untrained 1.00"


def test_a_score_that_is_not_a_number_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores(every_images=1)
    scores.choose({"fd": FD(num_samples=2)}, {})
    monkeypatch.setattr("twoplayer.callbacks.scores.log_scalars", lambda *arguments: None)
    for moment, value in enumerate([math.nan, 5.0, math.nan, 4.0, 6.0]):
        scores._log(Mock(), Mock(clock=Mock(images_seen=moment)), {"fd": value})
    assert (scores.state_dict()["best"], scores.best_at) == ({"fd": 4.0}, 3)
