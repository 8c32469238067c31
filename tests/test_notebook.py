"""A GAN as an object, and the example notebook from top to bottom."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import twoplayer
from helpers.games import PROJECT
from twoplayer.errors import ConfigurationError

TINY = (
    "model.generator.width=4",
    "model.discriminator.width=4",
    "data.batch_size=16",
    "metric=none",
    "~callbacks.diagnostics",
    "precision=fp32",
)


@pytest.fixture
def images() -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).random((200, 16, 16)) * 255).astype("uint8")


def test_it_trains_on_images_and_goes_on_exactly(images: np.ndarray[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gan = twoplayer.GAN(*TINY, loss="hinge", tricks=["ema"])
    assert "not trained" in repr(gan)
    assert gan._repr_png_() is None
    assert gan.fit(images, num_images=64, folder=tmp_path / "halves") is gan
    assert "loss hinge" in capsys.readouterr().out or logging.getLogger().handlers
    assert gan.summary["images_seen"] == 64
    assert "loss=hinge" in gan.summary["overrides"]
    assert "64 images seen" in repr(gan)
    assert (gan._repr_png_() or b"").startswith(b"\x89PNG")
    assert gan.sample(5, seed=1).shape == (5, 1, 16, 16)
    gan.fit(images, num_images=128)
    whole = twoplayer.GAN(*TINY, loss="hinge", tricks=["ema"]).fit(torch.from_numpy(images), num_images=128, folder=tmp_path / "whole")
    assert torch.equal(gan.sample(5), whole.sample(5))
    assert gan.grid(4).width > gan.grid(2).width


def test_labels_make_it_conditional(images: np.ndarray[Any, Any], tmp_path: Path) -> None:
    conditional = ("model.generator.conditioning=concatenate", "model.discriminator.conditioning=projection")
    gan = twoplayer.GAN(*TINY, *conditional, tricks=[]).fit(images, np.arange(200) % 3, num_images=32, folder=tmp_path / "run")
    assert gan.generator.num_classes == 3
    assert gan.sample(4, labels=2).shape == (4, 1, 16, 16)


def test_data_of_a_configuration_need_no_images(tmp_path: Path) -> None:
    points = ("data=ring", "metric=none", "~callbacks.diagnostics", "model.generator.widths=[8]", "model.discriminator.widths=[8]")
    gan = twoplayer.GAN(*points, model="mlp", tricks=[]).fit(num_images=512, folder=tmp_path / "run")
    assert gan.sample(3).shape == (3, 2)


def test_the_run_and_the_budget_may_be_overrides(tmp_path: Path) -> None:
    points = ("data=ring", "metric=none", "~callbacks.diagnostics", "model.generator.widths=[8]", "model.discriminator.widths=[8]")
    gan = twoplayer.GAN(*points, f"run={tmp_path / 'mine'}", "budget.images=1024", model="mlp", tricks=[]).fit()
    assert (gan.run, gan.summary["images_seen"]) == (tmp_path / "mine", 1024)
    assert gan.fit(num_images=1536).summary["segments"][-1] == {"resumed_from": 1024, "trained": 512}
    with pytest.raises(ConfigurationError, match=r"make a new GAN for another folder"):
        gan.fit(num_images=2048, folder=tmp_path / "other")


def test_what_does_not_fit_is_told_and_nothing_is_lost(images: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="call fit first"):
        twoplayer.GAN().sample(1)
    with pytest.raises(ConfigurationError, match=r"loss=hing: .*did you mean hinge"):
        twoplayer.GAN(loss="hing")
    with pytest.raises(ConfigurationError, match=r"data\.batchsize is not a setting; did you mean data\.batch_size"):
        twoplayer.GAN("data.batchsize=3")
    with pytest.raises(ConfigurationError, match=r"referee\.act=rollback: a GAN in Python is one run; set referee\.act=stop"):
        twoplayer.GAN("referee.act=rollback").fit()
    with pytest.raises(ConfigurationError, match="labels without images"):
        twoplayer.GAN().fit(labels=np.zeros(3))
    gan = twoplayer.GAN(*TINY, tricks=[]).fit(images, num_images=16, folder=tmp_path / "run")
    before = (tmp_path / "run_data.safetensors").read_bytes()
    for other in (gan, twoplayer.GAN(*TINY, tricks=[])):
        with pytest.raises(ConfigurationError, match="holds other images than these"):
            other.fit(255 - images, num_images=32, folder=tmp_path / "run")
    assert (tmp_path / "run_data.safetensors").read_bytes() == before
    with pytest.raises(ConfigurationError, match="already contains a run"):
        twoplayer.GAN(*TINY, tricks=[]).fit(images, num_images=32, folder=tmp_path / "run")


def test_the_example_runs_from_top_to_bottom(tmp_path: Path, data_root: str) -> None:
    cells = [cell for cell in json.loads((PROJECT / "examples" / "mnist.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells), "the notebook is shown with its outputs"
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        small = re.sub(r"num_images=\d+_000", "num_images=64", "".join(cell["source"])).replace("outputs/notebook", str(tmp_path))
        metric = ["metric.fd.num_samples=500"] if "hinge" in small else ["metric=none"]
        more = [*metric, "~callbacks.diagnostics", *([] if "own =" in small else [f"data.root={data_root}"])]
        small = small.replace("twoplayer.GAN(", f"twoplayer.GAN(*{more}, ")
        exec(compile(small, f"<cell {number}>", "exec"), names)
    assert names["gan"].summary["images_seen"] == 64
    assert names["own"].sample(1).shape == (1, 1, 16, 16)
