"""Loading a run back: the same generator, and nothing of the run is executed."""

import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import one_hot

import twoplayer
from helpers import commands
from helpers.games import CPU, choices, play, small
from twoplayer.commands.export import write_export
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.runs.saved import great_circles
from twoplayer.storage import checkpoints
from twoplayer.storage.checkpoints import DurableCheckpoints

pytestmark = pytest.mark.process


def saved(folder: Path, *overrides: str) -> Game:
    """A small run; returns the game that its newest checkpoint holds, put together by hand."""
    play(folder, "budget.images=48", *overrides, model="dcgan")
    game = build_game(small(*overrides), CPU)
    game.load_state_dict(content(folder)["state_dict"])
    return game


def content(folder: Path) -> dict[str, Any]:
    return torch.load(newest(folder), weights_only=True)


def newest(folder: Path) -> Path:
    return checkpoints.saved_files(folder)[0].path


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
    with pytest.raises(DataError, match="none of the 1 checkpoints is intact"):
        twoplayer.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "00000016.ckpt"
    DurableCheckpoints().save_checkpoint({"good": torch.ones(2)}, path)
    with pytest.raises(Exception):  # noqa: B017, PT011
        DurableCheckpoints().save_checkpoint({"bad": lambda: None}, path)
    (file,) = tmp_path.iterdir()
    assert torch.load(file, weights_only=True)["good"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=() if name in ("dcgan", "mlp") else pytest.mark.slow)
        for name in choices("model")
        if name not in ("pixel_cnn", "vq_vae", "pix2pix", "cycle_gan", "pixel_da")  # are refused, or need sources
    ],
)
def test_an_exported_generator_gives_the_same_images(model: str, tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=48", "trick=[ema]", model=model)
    finished = commands.run("export.py", "run=run", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert sorted(path.name for path in (tmp_path / "run" / "export").iterdir()) == [
        "README.md",
        "config.yaml",
        "generator.onnx",
        "generator.safetensors",
    ]
    assert [line.split()[0] for line in finished.output.splitlines()] == [
        "file",
        "run/export/generator.safetensors",
        "run/export/generator.onnx",
    ]
    assert finished.errors == ""
    images = twoplayer.load(tmp_path / "run")(20, seed=3)
    assert torch.equal(twoplayer.load(tmp_path / "run" / "export")(20, seed=3), images)
    session = onnxruntime.InferenceSession(tmp_path / "run" / "export" / "generator.onnx")
    latents = twoplayer.load(tmp_path / "run").game.latents(20, "sample", 3)
    (exported,) = session.run(None, {"latents": latents.numpy()})
    assert np.abs(exported - images.numpy()).max() < 1e-5


def test_a_conditional_generator_keeps_its_labels(tmp_path: Path) -> None:
    play(tmp_path, "budget.images=16", "model.generator.conditioning=concatenate")
    write_export(run=str(tmp_path), output=None, onnx=True)
    session = onnxruntime.InferenceSession(tmp_path / "export" / "generator.onnx")
    assert [value.name for value in session.get_inputs()] == ["latents", "labels"]
    namespace = follow(tmp_path / "export", "onnxruntime")
    labels = torch.arange(64) % 4
    expected = twoplayer.load(tmp_path).game.sample(torch.from_numpy(namespace["latents"]), labels)
    assert np.abs(namespace["images"] - expected.numpy()).max() < 1e-5


def blocks(folder: Path, language: str) -> list[str]:
    """The pieces of code in an export's README."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return [code for kind, code in found if kind == language]


def follow(folder: Path, word: str) -> dict[str, Any]:
    """Run the piece of Python in an export's README that holds this word; returns its variables."""
    (code,) = (code for code in blocks(folder, "python") if word in code)
    assert len(code.splitlines()) <= 6
    namespace: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(code, namespace)
    return namespace


def rebuilt(folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The generator, built from nothing but an export's README, its weights and torch."""
    *_, listing, layout = blocks(folder, "")
    modules: dict[str, torch.nn.Module] = {}
    path: list[str] = []
    for line in listing.splitlines()[1:-1]:
        if found := re.match(r"( *)\((\w+)\): (\w+)\((.*)", line):
            path = [*path[: len(found[1]) // 2 - 1], found[2]]
            if found[3] != "Sequential":
                modules[".".join(path)] = eval(f"{found[3]}({found[4]}", vars(torch.nn))
    top = list(dict.fromkeys(name.split(".")[0] for name in modules))
    parts = {
        name: torch.nn.Sequential(OrderedDict((key.split(".")[1], part) for key, part in modules.items() if key.startswith(f"{name}.")))
        if name not in modules
        else modules[name]
        for name in top
    }
    plain = torch.nn.ModuleDict(parts).eval()
    plain.load_state_dict(load_file(folder / "generator.safetensors"))
    return lambda z: eval(layout, {"z": z, **parts})


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("dcgan", ["trick=[ema]"]),
        ("dcgan", ["data.image_size=28", "model.generator.upsampling=pixel_shuffle", "model.generator.output_activation=sigmoid"]),
        ("gan", []),
    ],
)
def test_the_readme_of_an_export_is_enough(model: str, settings: list[str], tmp_path: Path) -> None:
    play(tmp_path, "budget.images=48", *settings, model=model)
    write_export(run=str(tmp_path), output=None, onnx=True)
    saved, folder = twoplayer.load(tmp_path), tmp_path / "export"
    assert torch.equal(follow(folder, "twoplayer")["images"], saved(64, seed=1))
    namespace = follow(folder, "onnxruntime")
    latents = torch.from_numpy(namespace["latents"])
    expected = saved.game.sample(latents, torch.zeros(64))
    assert np.abs(namespace["images"] - expected.numpy()).max() < 1e-5
    with torch.no_grad():
        assert torch.allclose(rebuilt(folder)(latents), expected, atol=1e-6)


@pytest.mark.parametrize("tricks", ["[]", "[ema,uniform_latents]"])
def test_both_exported_files_say_what_they_are(tricks: str, tmp_path: Path) -> None:
    play(tmp_path / "mine", "budget.images=48", f"trick={tricks}", model="dcgan")
    (tmp_path / "mine" / ".hydra").mkdir()
    (tmp_path / "mine" / ".hydra" / "overrides.yaml").write_text("- model=dcgan\n- trick=[ema]\n")
    write_export(run=str(tmp_path / "mine"), output=None, onnx=True)
    folder = tmp_path / "mine" / "export"
    with safe_open(folder / "generator.safetensors", "pt") as file:
        facts = file.metadata()
    assert onnxruntime.InferenceSession(folder / "generator.onnx").get_modelmeta().custom_metadata_map == facts
    mapped = tricks != "[]"
    assert facts == {
        "run": "mine",
        "command": "python src/train.py model=dcgan 'trick=[ema]'",
        "twoplayer_version": twoplayer.__version__,
        "weights": "averaged" if mapped else "raw",
        "latent_size": "16",
        "latent_distribution": "standard normal z" + ", mapped to erf(z / sqrt(2)), uniform in [-1, 1]" * mapped,
        "latents_of_onnx": "standard normal" + "; the graph maps them" * mapped,
        "latents_of_safetensors": "as latent_distribution says" if mapped else "standard normal",
        "output_shape": "(N, 1, 16, 16)",
        "output_range": "[-1, 1]",
        "layout": "output(convolutions(projection(hidden(z)).unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2))).tanh()",
    }
    write_export(run=str(folder), output=str(tmp_path / "again"), onnx=False)
    with safe_open(tmp_path / "again" / "generator.safetensors", "pt") as file:
        assert file.metadata() == facts


def test_a_broken_export_is_named(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=48")
    write_export(run=str(tmp_path / "run"), output=str(tmp_path / "export"), onnx=False)
    (tmp_path / "export" / "generator.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match=r"generator\.safetensors cannot be loaded"):
        twoplayer.load(tmp_path / "export")


@pytest.mark.parametrize(
    ("part", "setting", "message"),
    [
        ("model", {"generator": {"depth": 3}}, "model.generator.depth is not a setting"),
        ("trick", {"sparkle": {"_target_": "twoplayer.tricks.sparkle.Sparkle"}}, "_target_=twoplayer.tricks.sparkle.Sparkle"),
    ],
)
def test_a_run_of_another_version_is_told(part: str, setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    saved(tmp_path / "run")
    path, checkpoint = newest(tmp_path / "run"), content(tmp_path / "run")
    node = OmegaConf.merge(checkpoint["run"]["config"][part], setting)
    checkpoint["run"]["config"][part] = OmegaConf.to_container(node)
    checkpoint["run"]["versions"]["twoplayer"] = "0.0.1"
    DurableCheckpoints().save_checkpoint(checkpoint, path.with_name("00000048.ckpt"))
    path.unlink()
    for script in ("export.py", "sample.py"):
        finished = commands.run(script, "run=run", folder=tmp_path)
        assert finished.code == 2, finished.errors
        assert "was made by another version of twoplayer (0.0.1; this is" in finished.errors
        assert message in finished.errors
        assert "Use the version that made it" in finished.errors
        assert len(finished.errors.splitlines()) == 1


def test_an_output_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    saved(tmp_path / "run")
    for script in ("export.py", "sample.py"):
        finished = commands.run(script, "run=run", "output=/proc/nope", folder=tmp_path)
        assert (finished.code, finished.errors.count("\n")) == (2, 1)
        assert "output=/proc/nope: cannot create this folder" in finished.errors


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


def test_every_trick_that_changes_latents_says_what_it_makes_of_them() -> None:
    latents = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    names = {"z": latents, "latent_size": 16, "erf": torch.erf, "sqrt": lambda number: number**0.5, "cat": torch.cat, "one_hot": one_hot}
    for trick in ("information", "spherical_latents", "uniform_latents"):
        tricks = build_game(small(f"trick=[{trick}]"), CPU).tricks
        (prior,) = tricks.priors
        end = next(place for place, sign in enumerate(prior) if sign == "," and prior[:place].count("(") == prior[:place].count(")"))
        formula = prior[:end].replace("|z|", "z.norm(dim=1, keepdim=True)")
        expected = eval(formula, names)
        assert torch.allclose(tricks.latents(latents), expected)
