"""With a trained generator: own latents, truncation, walks, planes and projections."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import stats

import twoplayer
from helpers.games import play
from helpers.synthetic import Shapes
from twoplayer.commands.project import write_projection
from twoplayer.commands.sample import write_samples
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.pictures import to_uint8
from twoplayer.runs.projection import project
from twoplayer.runs.saved import SavedGenerator

CONDITIONAL = ("model.generator.conditioning=concatenate", "model.discriminator.conditioning=projection")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "plain"
    play(folder, "budget.images=160", "trick=[ema]", model="dcgan")
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    play(folder, "budget.images=160", *CONDITIONAL, model="dcgan")
    return folder


@pytest.fixture
def generator(run: Path) -> SavedGenerator:
    return twoplayer.load(run)


def test_it_says_what_it_is(generator: SavedGenerator, conditional: Path) -> None:
    assert repr(generator) == "<dcgan, non_saturating, ema on synthetic: 16 latents to 1 x 16 x 16; 160 images seen>"
    assert "16 latents and 4 classes" in repr(twoplayer.load(conditional))
    assert generator.to("cpu") is generator


def test_own_latents_give_the_images_of_a_seed(generator: SavedGenerator) -> None:
    assert torch.equal(generator(latents=generator.latents(5, seed=3)), generator(5, seed=3))
    assert generator.grid(6, columns=3).size == generator.grid(6, seed=1, columns=3).size


def test_truncated_latents_follow_the_normal_distribution_that_is_cut_off(generator: SavedGenerator) -> None:
    whole, cut = generator.latents(2000, seed=1), generator.latents(2000, seed=1, truncation=0.8)
    assert float(cut.abs().max()) <= 0.8
    assert (cut.flatten()[whole.flatten().argsort()].diff() >= 0).all(), "each latent keeps its rank"
    assert stats.kstest(cut.flatten().numpy(), stats.truncnorm(-0.8, 0.8).cdf).pvalue > 0.01
    assert torch.allclose(generator.latents(50, truncation=9.0), generator.latents(50), atol=1e-4)
    assert torch.equal(generator(50, seed=1, truncation=0.8), generator(latents=generator.latents(50, 1, 0.8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name a number of images"),
        ({"latents": torch.zeros(2, 3)}, r"this generator takes \(N, 16\)"),
        ({"latents": torch.zeros(2, 16), "num": 3}, "used as they are"),
        ({"latents": torch.zeros(2, 16), "truncation": 1.0}, "used as they are"),
        ({"num": 2, "truncation": 0.0}, "must be greater than 0"),
    ],
)
def test_what_cannot_be_drawn_is_told(generator: SavedGenerator, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        generator(**arguments)


def test_latents_that_are_not_gaussian_are_not_cut_off(tmp_path: Path) -> None:
    play(tmp_path, "budget.images=16", "trick=[uniform_latents]")
    with pytest.raises(ConfigurationError, match="those of this run are not"):
        twoplayer.load(tmp_path)(2, truncation=0.5)


def test_a_walk_returns_to_where_it_began(generator: SavedGenerator) -> None:
    moments = generator.walk(3, stations=2, steps=4, seed=5)
    assert moments.shape == (8, 3, 1, 16, 16)
    places = generator.latents(6, seed=5).view(2, 3, -1)
    assert torch.allclose(moments[0], generator(latents=places[0]), atol=1e-5)
    assert torch.allclose(moments[4], generator(latents=places[1]), atol=1e-5)
    steps = (moments - moments.roll(-1, 0)).flatten(1).norm(dim=1)
    assert float(steps[-1]) < 2 * float(steps[:-1].max()), "the last step is no jump"


def test_a_plane_shows_two_latents(tmp_path: Path, generator: SavedGenerator) -> None:
    play(tmp_path, "budget.images=16", "model.generator.latent_size=2")
    two = twoplayer.load(tmp_path)
    images = two.plane(3)
    assert images.shape[0] == 9
    quarter = float(stats.norm.ppf(5 / 6))
    corners = torch.tensor([[-quarter, quarter], [0.0, 0.0], [quarter, -quarter]])
    assert torch.allclose(images[[0, 4, 8]], two(latents=corners), atol=1e-5)
    with pytest.raises(ConfigurationError, match="this generator has 16 latents"):
        generator.plane(3)


def test_a_projection_finds_what_the_generator_drew(generator: SavedGenerator) -> None:
    drawn = generator(3, seed=9)
    seen: list[int] = []
    found = project(generator, drawn, restarts=3, steps=150, say=seen.append)
    assert seen == [*range(1, 151)]
    before = (generator(latents=generator.latents(3, seed=1)) - drawn).square().flatten(1).mean(1).sqrt()
    assert found.errors.mean() < 0.4 * before.mean()
    assert torch.allclose(found.images, generator(latents=found.latents), atol=1e-5)
    again = project(generator, drawn, restarts=3, steps=150)
    assert torch.equal(again.latents, found.latents)


def test_a_projection_finds_the_class_too(conditional: Path) -> None:
    generator = twoplayer.load(conditional)
    drawn = generator(4, seed=2, labels=[2, 0, 1, 3])
    found = project(generator, drawn, restarts=2, steps=40)
    own = torch.cat([generator(latents=found.latents[[at]], labels=int(found.labels[at])) for at in range(4)])
    assert torch.allclose(found.images, own, atol=1e-5)


def samples(run: Path, output: Path, **changes: Any) -> None:
    settings = {"num": 4, "seed": 0, "columns": 2, "single_files": False, "safetensors": False, "interpolate": False, "walk": False}
    more = {"plane": False, "latents": None, "truncation": None, "source": None, "source_half": None, "labels": None}
    write_samples(run=str(run), output=str(output), **(settings | more | changes))


def test_the_command_draws_each_way(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "mine.npz", latents=np.zeros((3, 16), dtype="float32"))
    samples(run, tmp_path, walk=True)
    samples(run, tmp_path, walk="mp4")
    samples(run, tmp_path, truncation=0.5)
    samples(run, tmp_path, latents=str(tmp_path / "mine.npz"))
    names = [Path(line).name for line in capsys.readouterr().out.split() if line.startswith("/")]
    assert names == ["seed0_4_walk.gif", "seed0_4_walk.mp4", "seed0_4_truncated.png", "seed0_3_latents.png"]
    with Image.open(tmp_path / names[0]) as animation:
        num: int = animation.n_frames  # type: ignore[attr-defined]
        assert num > 20
        with av.open(str(tmp_path / names[1])) as video:
            frames = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
        assert len(frames) == num
        animation.seek(num // 2)
        still = np.asarray(animation.convert("L"))[: len(frames[0]), : len(frames[0][0])]
        assert np.abs(frames[num // 2].astype(float) - still).mean() < 5


def test_a_video_without_its_package_is_told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"walk=mp4: needs the package av; install it with uv sync --extra video"):
        samples(run, tmp_path, walk="mp4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"walk": True, "interpolate": True}, "interpolate=true and walk=true: choose one of them"),
        ({"source": "x", "labels": [3]}, r"labels=\[3\]: a model that translates is told sources, no classes; leave it out"),
        ({"source_half": "left"}, "source_half=left: there is no source; leave it out"),
        ({"walk": True, "safetensors": True}, "safetensors=true: a walk is one file; leave it out"),
        ({"walk": True, "single_files": True}, "single_files=true: a walk is one file; leave it out"),
        ({"latents": "nothing.npz"}, "latents=nothing.npz: there is no such file"),
        ({"latents": "two.safetensors"}, "call the one to use latents"),
        ({"latents": "whole.safetensors"}, "they have to be floats"),
        ({"latents": "text.txt"}, "latents=text.txt: must be a file that ends in"),
    ],
)
def test_a_wrong_way_to_draw_is_told(
    changes: dict[str, Any], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"a": torch.zeros(1, 16), "b": torch.zeros(1, 16)}, "two.safetensors")
    save_file({"latents": torch.zeros(1, 16, dtype=torch.int64)}, "whole.safetensors")
    Path("text.txt").write_text("no")
    with pytest.raises((ConfigurationError, DataError), match=message):
        samples(run, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def shapes() -> Shapes:
    from hydra.utils import instantiate

    from helpers.games import small

    data = instantiate(small().data)
    assert isinstance(data, Shapes)
    return data


def test_the_command_projects_test_images_and_ones_own(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shapes()
    settings: dict[str, Any] = {"run": str(run), "data": data, "num": 3, "restarts": 1, "steps": 5, "seed": 0}
    write_projection(**settings, images="test", output=str(tmp_path / "test"))
    assert load_file(tmp_path / "test" / "latents.safetensors")["latents"].shape == (3, 16)
    pixels = to_uint8(data.splits.test.images[:1].float()) if data.splits.test.images.dtype != torch.uint8 else data.splits.test.images[:1]
    Image.fromarray(pixels[0, 0].numpy()).save(tmp_path / "one.png")
    write_projection(**settings, images=str(tmp_path / "one.png"), output=str(tmp_path / "own"))
    assert load_file(tmp_path / "own" / "latents.safetensors")["errors"].shape == (1,)
    assert (tmp_path / "own" / "projection.png").stat().st_size > 500
    assert "root mean square" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="images=nowhere"):
        write_projection(**settings, images="nowhere", output=None)
    (tmp_path / "text.txt").write_text("no")
    with pytest.raises(DataError, match=r"text\.txt"):
        write_projection(**settings, images=str(tmp_path / "text.txt"), output=None)
