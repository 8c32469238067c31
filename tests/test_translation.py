"""Images made from images: pairs of data, and the models that translate one into the other."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

import twoplayer
from helpers import commands
from helpers.games import CPU, composed, fit, play, same, small, weights
from twoplayer.commands.export import write_export
from twoplayer.data import pairing
from twoplayer.data.base import to_unit_range
from twoplayer.data.pairing import Paired
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.runs.projection import project
from twoplayer.runs.saved import sampling_generator

COLORS = ["data.kind=mnist_m", "data.paired=false", "data.channels=3"]
LATENTS = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))


def data_of(*overrides: str, model: str = "pix2pix") -> Any:
    return instantiate(small(*overrides, model=model).data)


def batch_of(data: Any) -> tuple[Tensor, ...]:
    batch: tuple[Tensor, ...] = data.batches(0, CPU).batch(0)
    return batch


def square() -> Tensor:
    """A bright square of 6 x 6 on dark ground."""
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[..., 4:10, 5:11] = 200
    return image


def test_an_outline_is_one_pixel_wide() -> None:
    line = pairing.outlines(square())
    expected = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    expected[..., 4:10, 5:11] = 255
    expected[..., 5:9, 6:10] = 0
    assert torch.equal(line, expected)


def test_a_hole_hides_the_centre_and_nothing_else() -> None:
    images = torch.randint(0, 255, (2, 1, 16, 16), dtype=torch.uint8)
    holed = pairing.without_center(images)
    assert (holed[..., 4:12, 4:12] == 128).all()
    kept = torch.ones(16, 16, dtype=torch.bool)
    kept[4:12, 4:12] = False
    assert torch.equal(holed[..., kept], images[..., kept])


def test_a_coarse_image_has_lost_what_is_finer_than_two_pixels() -> None:
    constant = torch.full((1, 1, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(pairing.coarse(constant), constant)
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 254).to(torch.uint8)[None, None]
    assert (pairing.coarse(board).float() - 127).abs().max() <= 5  # at the border; 127 before


def test_a_coloured_digit_is_as_bright_as_the_gray_one() -> None:
    images = torch.randint(0, 255, (3, 1, 16, 16), dtype=torch.uint8)
    colored = pairing.colored(images, torch.Generator().manual_seed(0))
    assert torch.equal(colored.amax(1, keepdim=True), images)


def test_a_digit_inverts_its_ground() -> None:
    images = torch.cat([square() // 200 * 255, torch.zeros_like(square())])
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    with_digit, ground = pairing.on_grounds(images, generators[0]), pairing.on_grounds(torch.zeros_like(images), generators[1])
    inside = images[0, 0] == 255
    difference = with_digit[0].int() - torch.where(inside, 255 - ground[0].int(), ground[0].int())
    assert difference.abs().max() <= 1
    assert torch.equal(with_digit[1], ground[1])


@pytest.mark.parametrize("kind", ["edges", "hole", "low_resolution", "rotation", "colors", "mnist_m"])
def test_sources_belong_to_their_targets_and_are_drawn_with_them(kind: str) -> None:
    channels = 1 if kind in pairing.GRAY else 3
    data: Paired = data_of(f"data.kind={kind}", f"data.channels={channels}")
    targets, labels, sources, labels_of_sources = batch_of(data)
    assert targets.shape == sources.shape == (16, channels, 16, 16)
    assert torch.equal(labels, labels_of_sources)
    stored, made = data.splits.train.images, data.source_images("train")
    place = int((to_unit_range(stored) == targets[3]).flatten(1).all(1).nonzero()[0])
    assert torch.equal(to_unit_range(made[place]), sources[3])
    held = data.held_out(5, 3, CPU, "test")
    assert torch.equal(held[2], to_unit_range(data.source_images("test")[5:8]))


def test_without_pairs_sources_have_an_order_of_their_own_that_holds_for_all_ranks() -> None:
    data = data_of("data.paired=false", model="cycle_gan")
    targets, _, sources, _ = batch_of(data)
    paired = batch_of(data_of(model="cycle_gan"))
    assert torch.equal(targets, paired[0])
    assert not torch.equal(sources, paired[2])
    ranks = [data.batches(0, CPU, rank, 2).batch(0) for rank in range(2)]
    assert torch.equal(torch.cat([part[2] for part in ranks]), sources)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=pix2pix"], r"model=pix2pix: it needs pairs, and data=mnist has none .*; set data=pairs data.paired=true"),
        (["model=cogan"], r"model=cogan: it needs sources, and data=mnist has none .*; set data=pairs"),
        (
            ["model=pix2pix", "data=pairs", "data.paired=false"],
            r"model=pix2pix: it needs pairs, and data=pairs has none with these settings",
        ),
        (["data=pairs", "data.kind=colors"], r"data.channels=1: images of data.kind=colors have 3; set data.channels=3"),
        (["data=pairs", "data.kind=colors", "data.channels=3"], r"data.classifier=mnist: it knows gray digits.*; set data.classifier=null"),
        (["data=pairs", "data.num_labels=100"], r"data.num_labels=100: pairs have no images without labels; set data.num_labels=null"),
        (["model=pix2pix", "data=pairs", "trick=[diff_augment]"], r"trick=diff_augment: it needs images, but model=pix2pix's D judges"),
    ],
)
def test_data_that_do_not_fit_a_translation_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed(*overrides)


def test_pix2pix_is_told_the_source_and_pays_for_the_distance_to_its_target() -> None:
    game = build_game(small(model="pix2pix"), CPU)
    batch = batch_of(data_of())
    fake = game.model.fake(batch, LATENTS)
    assert torch.equal(fake.condition, batch[2])
    other = game.model.judge(fake._replace(condition=fake.condition.flip(0)))[0]
    assert not torch.equal(other, game.model.judge(fake)[0]), "D sees the source"
    fresh = build_game(small(model="pix2pix"), CPU)
    _, scalars = fresh.update_generator(batch, LATENTS, ())
    expected = 10 * (build_game(small(model="pix2pix"), CPU).model.fake(batch, LATENTS).images - batch[0]).abs().mean()
    assert scalars["loss/absolute"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_discriminator_that_sees_no_source_judges_the_image_alone() -> None:
    game = build_game(small("model.discriminator.sees_source=false", model="pix2pix"), CPU)
    fake = game.model.fake(batch_of(data_of()), LATENTS)
    one, other = (game.model.judge(each)[0] for each in (fake, fake._replace(condition=fake.condition.flip(0))))
    assert torch.equal(one, other)


def test_a_translation_can_do_without_an_adversary(tmp_path: Path) -> None:
    game = fit(small("loss=reconstruction", "trick=[frozen_discriminator]", "model.weight=0", model="pix2pix"), tmp_path, 2)
    assert game.clock.updates == {"discriminator": 0, "generator": 2}
    assert game.scalars["loss/generator"] > 0


def test_cycle_gan_comes_back_to_where_it_was() -> None:
    game: Any = build_game(small("model.identity=2", model="cycle_gan"), CPU)
    batch = batch_of(data_of(model="cycle_gan"))
    real, fake = game.model.real(batch, LATENTS), game.model.fake(batch, LATENTS)
    assert torch.equal(real.images[::2], batch[0])
    assert torch.equal(real.images[1::2], batch[2])
    assert real.condition.tolist() == fake.condition.tolist() == [0, 1] * 16
    there, back = game.model.generator, game.model.generator.back
    assert torch.equal(fake.images[::2], there(LATENTS, batch[2]))
    assert torch.equal(fake.images[1::2], back(LATENTS, batch[0]))
    assert not same(weights(there.down), weights(back.down))
    zeros = torch.zeros(16, 16)
    twice = (back(zeros, fake.images[::2]) - batch[2]).abs().mean() + (there(zeros, fake.images[1::2]) - batch[0]).abs().mean()
    alone = (there(zeros, batch[0]) - batch[0]).abs().mean() + (back(zeros, batch[2]) - batch[2]).abs().mean()
    costs = game.model.generator_costs(batch, None, fake, game.judge, game.loss.hide)
    assert costs["cycle"].item() == pytest.approx(10 * twice.item(), rel=1e-3)
    assert costs["identity"].item() == pytest.approx(2 * alone.item(), rel=1e-3)


def test_cogan_makes_both_images_of_the_same_maps() -> None:
    game: Any = build_game(small(model="cogan"), CPU)
    batch = batch_of(data_of(model="cogan"))
    fake = game.model.fake(batch, LATENTS)
    targets, sources = game.model.generator.eval().both(LATENTS)
    assert fake.images.shape == (32, 1, 16, 16)
    assert torch.equal(targets, game.model.generator(LATENTS, batch[1]))
    assert not torch.equal(targets, sources)


def test_pixel_da_learns_from_labels_of_sources_alone() -> None:
    game: Any = build_game(small(*COLORS, model="pixel_da"), CPU)
    targets, labels, sources, of_sources = batch_of(data_of(*COLORS, model="pixel_da"))
    assert not torch.equal(labels, of_sources)
    fake = game.model.fake((targets, labels, sources, of_sources), LATENTS)
    costs = [
        game.model.generator_costs((targets, told, sources, of_sources), None, fake, game.judge, game.loss.hide)["task"]
        for told in (labels, labels.flip(0))
    ]
    assert torch.equal(*costs), "labels of targets have no part in it"
    classify = game.model.generator.classifier
    expected = cross_entropy(classify(sources), of_sources) + cross_entropy(classify(fake.images), of_sources)
    assert costs[0].item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "measures"),
    [
        pytest.param("pix2pix", {"psnr", "psnr_of_sources"}, marks=pytest.mark.slow),
        pytest.param("cycle_gan", {"psnr", "psnr_of_cycles"}, marks=pytest.mark.slow),
        ("pixel_da", {"class_accuracy", "class_accuracy_of_sources"}),
    ],
)
def test_a_run_measures_and_shows_its_translations(model: str, measures: set[str], tmp_path: Path) -> None:
    quick = ["metric=c2st", "metric.c2st.iterations=5", "metric.c2st.num_samples=40"]
    summary = play(tmp_path / "run", "budget.images=32", *quick, model=model)
    assert {name.removesuffix("_test") for name in summary["measures"] if name.endswith("_test")} == measures
    assert summary["scores"]["c2st"]["value"] is not None
    samples = tmp_path / "run" / "samples"
    assert (samples / "translations.png").exists()
    data = data_of(model=model)
    game = twoplayer.load(tmp_path / "run").game
    game.take_told(data)
    assert torch.equal(game.told(3, 190), to_unit_range(data.source_images("test")[[190, 191, 0]]))
    assert torch.equal(game.classes_of(LATENTS[:3], 190), data.splits.test.labels[[190, 191, 0]])


@pytest.mark.process
def test_a_folder_of_ones_own_is_translated(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "trick=[ema]", model="pix2pix")
    folder = tmp_path / "mine"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((20, 20), 60 * index, dtype=np.uint8)).save(folder / f"{index}.png")
    generator = twoplayer.load(tmp_path / "run")
    assert "1 x 16 x 16 sources to images" in repr(generator)
    done = commands.run("sample.py", f"run={tmp_path / 'run'}", f"source={folder}", "columns=3", folder=tmp_path)
    assert done.code == 0, done.errors
    shown = Image.open(done.output.strip())
    assert shown.height > shown.width / 3 * 1.9, "a row of sources and a row of translations"
    sources = torch.full((2, 1, 16, 16), -1.0)
    assert torch.equal(generator(sources=sources), generator(sources=sources))
    with pytest.raises(ConfigurationError, match=r"sources of shape \(2, 3, 16, 16\): this model takes \(N, 1, 16, 16\)"):
        generator(sources=torch.zeros(2, 3, 16, 16))
    with pytest.raises(ConfigurationError, match=r"this model translates images .* source=<folder>"):
        generator(4)
    with pytest.raises(ConfigurationError, match=r"model=pix2pix has no latents that can be found by a slope; name a run"):
        project(generator, sources, restarts=1, steps=1)
    refused = commands.run("sample.py", f"run={tmp_path / 'run'}", "source=nothing", folder=tmp_path)
    assert (refused.code, refused.errors.count("\n")) == (2, 1)
    assert "source=nothing: there is no such folder or file" in refused.errors


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_a_translation_is_exported_and_its_readme_is_enough(model: str, tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "trick=[ema]", model=model)
    write_export(run=str(tmp_path / "run"), output=None, onnx=True)
    saved, folder = twoplayer.load(tmp_path / "run"), tmp_path / "run" / "export"
    text = (folder / "README.md").read_text()
    assert "and source images (N, 1, 16, 16) in [-1, 1]" in text
    modules = dict(sampling_generator(saved.game).named_children())
    (layout,) = re.findall(r"in evaluation mode:\n\n```\n(.*)\n```", text)
    (onnx,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in code)
    (ours,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "twoplayer" in code)
    found: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(onnx, found)
        images = found["images"]
        exec(ours, found)
    assert torch.equal(found["images"], saved(sources=torch.zeros(64, 1, 16, 16), seed=1))
    latents = torch.from_numpy(found["latents"]) if "latents" in found else torch.zeros(64, saved.latent_size)
    expected = saved.game.sample(latents, torch.zeros(64, 1, 16, 16))
    assert np.abs(images - expected.numpy()).max() < 1e-4
    with torch.no_grad():
        plain = eval(layout, {"torch": torch, "z": latents, "y": torch.zeros(64, 1, 16, 16), **modules})
    assert torch.allclose(plain, expected, atol=1e-5)


def test_a_model_that_translates_nothing_takes_no_source(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    with pytest.raises(ConfigurationError, match=r"source: the model of this run translates no images; leave it out"):
        twoplayer.load(tmp_path / "run")(sources=torch.zeros(1, 1, 16, 16))
