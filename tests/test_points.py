"""Points whose modes are known: ring, grid and a line, their pictures and recipes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from helpers.games import CPU, composed
from twoplayer import plots
from twoplayer.data.base import to_unit_range
from twoplayer.data.mixture import Mixture
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import Images
from twoplayer.metrics.scoring import Scoring
from twoplayer.metrics.stacked_modes import StackedModes
from twoplayer.runs.plan import plan_run
from twoplayer.runs.saved import load
from twoplayer.runs.train import train

SHORT = ["budget.images=1536", "data.num_examples=512", "logger=none", "callbacks.samples.first_images=512", "threads=1"]


def mixture(name: str, *overrides: str) -> Mixture:
    data = instantiate(composed(f"data={name}", "model=mlp", *overrides).data)
    assert isinstance(data, Mixture)
    return data


@pytest.mark.parametrize(("name", "num"), [("ring", 8), ("grid", 25), ("gaussian_1d", 1)])
def test_points_lie_around_their_centers(name: str, num: int) -> None:
    data = mixture(name)
    points, labels = data.splits.train
    assert points.shape == (100_000, data.shape[0])
    assert len(data.centers) == num
    apart = points - data.centers[labels]
    assert float(apart.std()) == pytest.approx(data.deviation, rel=0.01)
    assert labels.bincount().double().div(100_000).sub(1 / num).abs().max() < 0.01
    assert not torch.equal(points[:100], data.splits.test.images[:100])
    assert torch.equal(points, mixture(name).splits.train.images), "the same in every run"


def test_the_published_sizes() -> None:
    ring, grid = mixture("ring"), mixture("grid")
    assert torch.allclose(ring.centers.norm(dim=1), torch.ones(8))
    assert ring.deviation == 0.01
    assert sorted(grid.centers[:, 0].unique().tolist()) == [-4, -2, 0, 2, 4]
    assert grid.deviation == 0.05


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=ring"], r"model=dcgan: needs images, but an example of data=ring is a point; set model=mlp"),
        (["data=ring", "model=mlp", "trick=[diff_augment]"], r"trick=diff_augment: it needs images"),
        (["data=grid", "model=mlp", "data.num_classes=24"], r"data\.num_classes=24: the Gaussians form a square; set data\.num_classes=16"),
        (["data=ring", "model=mlp", "data.deviation=0"], r"data\.deviation=0: must be greater than 0"),
    ],
)
def test_what_does_not_fit_points_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed(*overrides)


def test_a_generator_of_points_is_not_bounded() -> None:
    assert composed("data=ring", "model=mlp").model.generator.output_activation == "none"
    assert composed("model=mlp").model.generator.output_activation == "tanh"


@pytest.mark.process
@pytest.mark.parametrize("name", ["ring", "grid", "gaussian_1d"])
def test_a_run_on_points_draws_them_in_the_plane(name: str, tmp_path: Path) -> None:
    config = composed(f"experiment={name}", *SHORT, f"run={tmp_path / 'run'}")
    summary = train(config, plan_run(config, tmp_path / "run"))
    assert [*summary["scores"]] == ["mode_error", "modes", "high_quality", "reverse_kl"]
    samples = tmp_path / "run" / "samples"
    assert {"real.png", "progress.png", "progress.gif", "00000000.png"} <= {path.name for path in samples.iterdir()}
    with Image.open(sorted(samples.glob("0*.png"))[-1]) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 50
    assert load(tmp_path / "run")(10).shape == (10, *config.data.shape)


@pytest.mark.process
def test_packs_and_vectors_of_points_train(tmp_path: Path) -> None:
    for number, more in enumerate((["trick=[packing]"], ["loss=mmd", "model.discriminator.num_outputs=8", "trick=[]"])):
        config = composed("experiment=ring", *SHORT, *more, f"run={tmp_path / str(number)}")
        assert train(config, plan_run(config, tmp_path / str(number)))["images_seen"] == 1536


def test_a_plane_shows_samples_where_they_are() -> None:
    samples = torch.tensor([[0.5, 0.5]]).repeat(50, 1)
    picture = np.asarray(plots.plane(samples, -samples, 1.0, None)).astype(int)
    orange = np.argwhere(np.abs(picture - np.array([217, 95, 2])).sum(2) < 60)
    gray = np.argwhere(np.abs(picture - 0x44).sum(2) < 40)
    assert orange[:, 1].mean() > gray[:, 1].mean() or math.isnan(gray.mean())
    assert len(orange) > 4


@pytest.mark.process
@pytest.mark.parametrize("num", [5000, pytest.param(26_000, marks=pytest.mark.slow)])
def test_stacked_digits_form_their_label(num: int, data_root: str) -> None:
    config = composed("data=stacked_mnist", f"data.root='{data_root}'", "data.num_examples=500")
    assert [*config.metric] == ["stacked_modes"]
    data = instantiate(config.data)
    images, labels = data.splits.train
    assert images.shape == (500, 3, 28, 28)
    scoring = Scoring({"stacked_modes": StackedModes(num_samples=num)}, data, CPU)
    published = 0.0236 if num == 26_000 else 999 / 2 / num  # the second is that of equal frequencies
    assert scoring.floors["stacked_kl"] == pytest.approx(published, abs=0.003 if num == 26_000 else 0.02)
    assert scoring.floors["modes"] == pytest.approx(1000, abs=15)
    read = scoring.metrics["stacked_modes"]._numbers(to_unit_range(images))  # type: ignore[attr-defined]
    assert float((read == labels).double().mean()) > 0.97
    one = Images.real(images[:1].expand(num, -1, -1, -1), CPU)
    found = scoring.score_images(one, "test")
    assert found["stacked_kl"] == pytest.approx(math.log(1000))
    assert (found["modes"], found["frequent_modes"]) == (1, 1)


def test_codes_are_shown_on_the_plane_in_which_they_vary_most() -> None:
    places = torch.randn(50, 2, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    turn, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    found = plots.principal_plane(places @ turn[:2] + 7)
    assert torch.allclose(torch.cdist(found, found), torch.cdist(places, places), atol=1e-6)
    assert found[:, 0].var() > found[:, 1].var()
    assert torch.equal(plots.principal_plane(places), places - places.mean(0))
    assert plots.principal_plane(places[:, :1]).shape == (50, 2)
    few, many = (plots.codes_on_a_plane(places, torch.arange(50) % num) for num in (3, 30))
    assert few.size == many.size
