"""Loading a run back: the same generator, and nothing of the run is executed."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import commands
import twoplayer
from conftest import CPU, play, small
from twoplayer import checkpoint_io
from twoplayer.checkpoint_io import DurableCheckpoints
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.exporting import write_export
from twoplayer.game import Game
from twoplayer.saved import great_circles
from twoplayer.training import build_game


def saved(folder: Path, *overrides: str) -> Game:
    """A small run; returns the game that its newest checkpoint holds, put together by hand."""
    play(folder, "budget.images=48", *overrides, model="dcgan")
    game = build_game(small(*overrides), CPU)
    game.load_state_dict(content(folder)["state_dict"])
    return game


def content(folder: Path) -> dict[str, Any]:
    return torch.load(newest(folder), weights_only=True)


def newest(folder: Path) -> Path:
    return checkpoint_io.generations(folder)[0].path


@pytest.mark.parametrize("tricks", ["[]", "[ema]"])
def test_the_generator_comes_back(tricks: str, tmp_path: Path) -> None:
    game = saved(tmp_path, f"trick={tricks}")
    generator = twoplayer.load(tmp_path)
    images = generator(5, seed=2)
    assert torch.equal(images, game.sample(game.latents(5, "sample", 2), torch.zeros(5)))
    assert not torch.equal(images, generator(5, seed=3))


def test_samples_come_from_the_average_where_there_is_one(tmp_path: Path) -> None:
    game = saved(tmp_path, "trick=[ema]")
    generator = twoplayer.load(tmp_path)
    raw = generator.game.model.generator.eval()
    with torch.no_grad():
        assert not torch.equal(generator(5), raw(game.latents(5, "sample", 0), torch.zeros(5)))


def test_one_checkpoint_can_be_opened(tmp_path: Path) -> None:
    saved(tmp_path)
    assert torch.equal(twoplayer.load(newest(tmp_path))(3), twoplayer.load(tmp_path)(3))


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no checkpoint in this folder"):
        twoplayer.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    saved(tmp_path)
    newest(tmp_path).write_bytes(content)
    with pytest.raises(DataError, match="none of the 1 checkpoints is whole"):
        twoplayer.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "00000016.ckpt"
    DurableCheckpoints().save_checkpoint({"good": torch.ones(2)}, path)
    with pytest.raises(Exception):  # noqa: B017, PT011
        DurableCheckpoints().save_checkpoint({"bad": lambda: None}, path)
    (file,) = tmp_path.iterdir()
    assert torch.load(file, weights_only=True)["good"].tolist() == [1, 1]


@pytest.mark.parametrize("model", ["dcgan", "gan"])
def test_an_exported_generator_gives_the_same_images(model: str, tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=48", "trick=[ema]", model=model)
    finished = commands.run("export.py", "run=run", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert sorted(path.name for path in (tmp_path / "run" / "export").iterdir()) == [
        "config.yaml",
        "generator.onnx",
        "generator.safetensors",
    ]
    assert "generator.onnx" in finished.output
    images = twoplayer.load(tmp_path / "run")(20, seed=3)
    assert torch.equal(twoplayer.load(tmp_path / "run" / "export")(20, seed=3), images)
    session = onnxruntime.InferenceSession(tmp_path / "run" / "export" / "generator.onnx")
    latents = twoplayer.load(tmp_path / "run").game.latents(20, "sample", 3)
    (exported,) = session.run(None, {"latents": latents.numpy(), "labels": np.arange(20) % 4})
    assert np.abs(exported - images.numpy()).max() < 1e-5


def test_a_broken_export_is_named(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=48")
    write_export(run=str(tmp_path / "run"), output=str(tmp_path / "export"), onnx=False)
    (tmp_path / "export" / "generator.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match=r"generator\.safetensors cannot be loaded"):
        twoplayer.load(tmp_path / "export")


def test_a_generator_that_draws_noise_of_its_own_gives_the_same_samples_again(tmp_path: Path) -> None:
    play(tmp_path / "run", "trick=[generator_dropout]", "budget.images=48", model="dcgan")
    generator = twoplayer.load(tmp_path / "run")
    before = torch.get_rng_state()
    images = generator(6, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(generator(6, seed=1), images)
    assert not torch.equal(generator(6, seed=2), images)


def test_a_way_between_samples_is_a_great_circle(tmp_path: Path) -> None:
    game = saved(tmp_path)
    ends = game.latents(4, "sample", 1)
    ways = great_circles(ends[:2], ends[2:], 5).view(2, 5, -1)
    assert torch.allclose(ways[:, [0, -1]].transpose(0, 1).flatten(0, 1), ends, atol=1e-5)
    units = torch.nn.functional.normalize(ends, dim=1)
    directions = torch.nn.functional.normalize(great_circles(units[:2], units[2:], 5).view(2, 5, -1), dim=2)
    angles = (directions[:, 1:] * directions[:, :-1]).sum(2).acos()
    assert torch.allclose(angles, angles[:, :1].expand(-1, 4), atol=1e-3)
    images = twoplayer.load(tmp_path).interpolate(2, 5, seed=1)
    assert torch.allclose(images.view(2, 5, *images.shape[1:])[:, 0], game.sample(ends[:2], torch.arange(2)), atol=1e-4)
    assert torch.allclose(images.view(2, 5, *images.shape[1:])[:, -1], game.sample(ends[2:], torch.arange(2)), atol=1e-4)
