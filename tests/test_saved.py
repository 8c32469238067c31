"""Loading a run back: the same generator, and nothing of the run is executed."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import twoplayer
from conftest import fit, small
from twoplayer.checkpoint_io import DurableCheckpoints
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.game import Game


def saved(folder: Path, *overrides: str) -> Game:
    """A small run, saved as training saves it."""
    config = small(*overrides)
    game = fit(config, folder, 3)
    parts = ["seed", "engine", "precision", "data", "model", "loss", "trick", "optimizer"]
    OmegaConf.resolve(resolved := OmegaConf.masked_copy(config, parts))
    OmegaConf.save(resolved, folder / "config.yaml")
    DurableCheckpoints().save_checkpoint({"state_dict": game.state_dict()}, folder / "checkpoints" / "last.ckpt")
    return game


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


def test_opening_a_run_builds_no_foreign_class(tmp_path: Path) -> None:
    saved(tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("twoplayer.losses.non_saturating.NonSaturating", "os.system"))
    with pytest.raises(ConfigurationError, match="classes of twoplayer alone"):
        twoplayer.load(tmp_path)
    (tmp_path / "config.yaml").write_text(text.replace("twoplayer.losses.non_saturating.NonSaturating", "twoplayer.saved.torch.load"))
    with pytest.raises(ConfigurationError, match="classes of twoplayer alone"):
        twoplayer.load(tmp_path)


def test_opening_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "canary",))  # type: ignore[return-value]

    saved(tmp_path)
    torch.save({"state_dict": Hostile()}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(DataError, match=r"last\.ckpt cannot be loaded"):
        twoplayer.load(tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(content)
    with pytest.raises(DataError, match=r"last\.ckpt"):
        twoplayer.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    DurableCheckpoints().save_checkpoint({"good": torch.ones(2)}, path)
    with pytest.raises(Exception):  # noqa: B017, PT011
        DurableCheckpoints().save_checkpoint({"bad": lambda: None}, path)
    assert torch.load(path, weights_only=True)["good"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
