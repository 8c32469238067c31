"""The classifier two-sample test: where the answer is known, and that it changes nothing else."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from scipy.stats import binomtest
from torch import Tensor, nn

from helpers.games import CPU, composed, play, small
from helpers.synthetic import Shapes
from twoplayer.data.base import Split, Splits, to_unit_range
from twoplayer.metrics.base import CHUNK
from twoplayer.metrics.c2st import C2ST, held_out_accuracy, network, wilson
from twoplayer.metrics.scoring import Scoring
from twoplayer.storage import checkpoints

QUICK: dict[str, Any] = {"iterations": 100, "batch_size": 64, "lr": 0.002}


def normal(num: int, size: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_the_accuracy_of_shifted_normal_distributions_is_that_of_theory(shift: float) -> None:
    """No discriminator of N(0, 1) and N(d, 1) is better than the one that cuts at d / 2."""
    samples, images = normal(4000), normal(4000, seed=1)
    samples[:, 0] += shift
    best = 0.5 * (1 + math.erf(shift / 2 / math.sqrt(2)))
    assert held_out_accuracy(samples, images, **QUICK) == pytest.approx(best, abs=0.03)


def test_what_is_separable_is_told_apart() -> None:
    assert held_out_accuracy(normal(400) / 4 + 3, normal(400, seed=1) / 4, **QUICK) == 1.0


def test_equal_sets_are_not_told_apart() -> None:
    images = normal(400)
    assert held_out_accuracy(images, images.clone(), **QUICK) == 0.5


def shapes(**changes: Any) -> Shapes:
    config = small("data.num_images=null")
    data: Shapes = instantiate(config.data, **changes)
    return data


def score(scoring: Scoring, images: Tensor) -> float:
    chunks = images.split(CHUNK)
    return scoring.score(lambda num, index: chunks[index][:num], ["test"])["test"]["c2st"]


@pytest.fixture(scope="module")
def scoring() -> Scoring:
    return Scoring({"c2st": C2ST(num_samples=4000, **QUICK)}, shapes(), CPU)


def test_noise_in_growing_doses_moves_it_in_order(scoring: Scoring) -> None:
    images = to_unit_range(shapes()._split(7).images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = [score(scoring, (images + dose * noise).clamp(-1, 1)) for dose in (0.0, 0.16, 0.4, 1.0)]
    assert found == sorted(found)
    assert found[0] < 0.65
    assert found[2] > found[0] + 0.1
    assert found[3] > 0.97


def test_a_missing_class_is_found(scoring: Scoring) -> None:
    images, labels = shapes()._split(7)
    kept = to_unit_range(images[labels != 0])
    assert score(scoring, torch.cat([kept, kept])[:192]) > scoring.floors["c2st"] + 0.04


def test_the_smallest_split_sets_the_number_and_few_images_are_warned_of(scoring: Scoring, caplog: pytest.LogCaptureFixture) -> None:
    protocol = scoring.metrics["c2st"].protocol()
    assert (protocol["num_samples"], protocol["held_out"]) == (192, 192)
    scoring.metrics["c2st"].prepare(shapes(), CPU)
    assert "c2st compares only 192 images, as many as the validation split has: its 95 % interval is about +- 0.07" in caplog.text
    assert 0.35 < scoring.floors["c2st"] < 0.65


@pytest.mark.parametrize("spoiled", [math.nan, math.inf])
def test_samples_that_are_not_finite_score_one(scoring: Scoring, spoiled: float) -> None:
    images = to_unit_range(shapes()._split(7).images)
    images[5, 0, 3, 3] = spoiled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(scoring, images) == 1.0


def test_equal_samples_score_one(scoring: Scoring) -> None:
    image = to_unit_range(shapes()._split(7).images[:1])  # real as it may look
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(scoring, image.expand(192, -1, -1, -1)) == 1.0


def test_a_training_that_diverges_scores_one() -> None:
    assert held_out_accuracy(normal(100) * 1e38, normal(100, seed=1), **QUICK) == 1.0


def test_samples_are_compared_in_the_bits_of_the_data(scoring: Scoring) -> None:
    images = to_unit_range(shapes()._split(7).images)
    assert score(scoring, images) == score(scoring, images + 0.3 / 127.5 * torch.rand(images.shape))


def test_it_is_deterministic_and_leaves_the_random_numbers_alone(scoring: Scoring) -> None:
    images = to_unit_range(shapes()._split(7).images) + 0.1
    before = torch.get_rng_state()
    first = score(scoring, images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert score(scoring, images) == first


def test_too_few_images_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes()
    train, validation, test = data.splits
    monkeypatch.setattr(data, "_splits", Splits(train, Split(validation.images[:3], validation.labels[:3]), test))
    scoring = Scoring({"c2st": C2ST(num_samples=4000, **QUICK)}, data, CPU)
    assert scoring.reasons == {"c2st": "the validation split has 3 images, and 4 are the least"}


@pytest.mark.parametrize(
    ("shape", "convolutions"),
    [((1, 16, 16), 2), ((1, 28, 28), 3), ((3, 64, 64), 4), ((3, 256, 256), 6), ((2,), 0), ((3, 5, 2), 0), ((64,), 0), ((4, 8, 8, 8), 0)],
)
def test_the_discriminator_fits_the_shape(shape: tuple[int, ...], convolutions: int) -> None:
    discriminator = network(shape)
    assert sum(isinstance(module, nn.Conv2d) for module in discriminator.modules()) == convolutions
    assert discriminator(torch.randn(2, *shape)).shape == (2, 1)


@pytest.mark.parametrize(("right", "num"), [(50, 100), (100, 100), (2800, 4000)])
def test_the_interval_is_wilsons(right: int, num: int) -> None:
    expected = binomtest(right, num).proportion_ci(0.95, "wilson")
    assert wilson(right / num, num) == pytest.approx((expected.low, expected.high), abs=1e-9)


C2ST_QUICK = ["metric=c2st", "metric.c2st.iterations=5", "metric.c2st.num_samples=40", "callbacks.scores.every_images=32"]


def test_a_run_has_the_score_and_the_same_weights(tmp_path: Path) -> None:
    states = []
    for name, settings in {"with": C2ST_QUICK, "without": []}.items():
        play(tmp_path / name, *settings, "budget.images=64")
        found = checkpoints.newest(tmp_path / name)
        assert found is not None
        states.append(found[1]["state_dict"])
    tensors = [name for name, value in states[1].items() if isinstance(value, Tensor)]
    assert tensors
    assert all(torch.equal(states[0][name], states[1][name]) for name in tensors)
    entry = json.loads((tmp_path / "with" / "summary.json").read_text())["scores"]["c2st"]
    low, high = entry["interval"]
    assert 0 <= low <= entry["value"] <= high <= 1
    assert entry["protocol"]["num_samples"] == 40
    assert (tmp_path / "with" / "metrics.csv").read_text().splitlines()[0].count("c2st_validation") == 1


def test_data_without_a_classifier_get_it_by_default(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez(file, images=np.zeros((20, 1, 16, 16), np.uint8), labels=np.arange(20) % 4)
    own = ["data=array", f"data.file='{file}'", "model=gan"]
    assert [*composed(*own).metric] == ["c2st"]
    assert composed(*own).metric.c2st == composed(*own, "metric=[c2st]").metric.c2st
    assert [*composed("data.classifier=null").metric] == ["c2st"]
    for typed in ("metric=fd", "metric=[fd]", "metric.fd.num_samples=100"):
        assert [*composed(*own, typed).metric] == ["fd"]
    assert composed(*own, "metric=none").metric == {}
    assert [*composed(*own, "metric=[precision_recall]").metric] == ["precision_recall"]
    assert [*composed(*own, "data.classifier=mnist").metric] == ["fd"]
    assert [*composed().metric] == ["fd"]
