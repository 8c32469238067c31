"""Pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from helpers.games import CPU, MODELS, has_autoencoder, play, same, small, weights
from twoplayer import pictures
from twoplayer.callbacks.samples import log_spaced
from twoplayer.game.build import build_game


def test_minus_one_is_black_and_one_is_white() -> None:
    assert pictures.to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist() == [0, 128, 255, 255]


def test_a_grid_shows_each_image_in_its_place() -> None:
    images = torch.stack([torch.full((1, 84, 84), value, dtype=torch.uint8) for value in (0, 100, 200)])
    pixels = np.asarray(pictures.grid(images, columns=2))
    gap = pictures.GAP
    assert pixels.shape == (2 * (84 + gap) + gap, 2 * (84 + gap) + gap)
    assert (pixels[gap, gap], pixels[gap, 84 + 2 * gap], pixels[84 + 2 * gap, gap], pixels[-1, -1]) == (0, 100, 200, 255)


def test_few_images_leave_no_white_cells() -> None:
    images = torch.zeros(5, 1, 84, 84, dtype=torch.uint8)
    assert pictures.grid(images, columns=8).width == 5 * (84 + pictures.GAP) + pictures.GAP
    assert pictures.grid(images, columns=5).size == pictures.grid(images, columns=8).size


def test_a_strip_has_a_column_as_wide_as_its_text_and_the_reference_apart() -> None:
    rows = [(label, Image.new("RGB", (200, 84))) for label in ("0 images\n0.00 epochs", "240,000 images\n4.00 epochs")]
    strip = pictures.filmstrip(rows, ("real", Image.new("RGB", (200, 84))))
    pixels = np.asarray(strip.convert("L"))
    column = strip.width - 200
    ink = np.flatnonzero((pixels[:, :column] < 128).any(0))
    assert 0 < ink[0] <= 12
    assert 6 <= column - ink[-1] <= 12
    height = 3 * 84 + pictures.APART
    assert strip.height == height
    assert (pixels[2 * 84 : 2 * 84 + pictures.APART] == 255).all()  # the gap
    text = np.flatnonzero((pixels[84 : 2 * 84, :column] < 128).any(1))
    between = np.diff(text).max()
    assert between >= 6  # two lines that do not touch
    assert (pixels[2 * 84 + pictures.APART :, :column] < 128).any()  # its caption


def test_frames_of_an_animation_are_as_wide_as_their_text(tmp_path: Path) -> None:
    frames = [pictures.caption(Image.new("RGB", (60, 40)), text) for text in ("0 images, 0.00 epochs", "240,000 images, 4.00 epochs")]
    pictures.animate(frames, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.size == frames[1].size
        assert animation.width > 200


@pytest.mark.parametrize("num", [5, 64])
def test_a_run_shows_the_first_real_images(num: int, tmp_path: Path) -> None:
    expected = pictures.grid(instantiate(small().data).splits.train.images[:num], 8)  # of 16 pixels, five times as large
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        play(folder, "budget.images=32", f"seed={seed}", f"callbacks.samples.num={num}")
        with Image.open(folder / "samples" / "real.png") as real:
            assert np.array_equal(np.asarray(real), np.asarray(expected))
            first_row = np.asarray(real)[: 80 + 2 * pictures.GAP]
        with Image.open(folder / "samples" / "00000032.png") as grid:
            assert grid.size == expected.size
        with Image.open(folder / "samples" / "progress.png") as strip:
            pixels = np.asarray(strip.convert("L"))
        column = pixels.shape[1] - (2 if num > 8 else 1) * first_row.shape[1]
        assert np.array_equal(pixels[-first_row.shape[0] :, column : column + first_row.shape[1]], first_row)


def test_fewer_real_images_than_samples(tmp_path: Path) -> None:
    play(tmp_path, "budget.images=32", "data.num_images=3")
    with Image.open(tmp_path / "samples" / "real.png") as real, Image.open(tmp_path / "samples" / "progress.png") as strip:
        assert real.width < strip.width


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    image = torch.arange(28 * 28).remainder(256).to(torch.uint8).view(1, 1, 28, 28)
    pixels = np.asarray(pictures.grid(image, columns=1))[2:-2, 2:-2]
    assert np.array_equal(pixels[::3, ::3], image[0, 0].numpy())
    assert np.array_equal(pixels[1::3, 2::3], image[0, 0].numpy())


def test_colour_stays_colour() -> None:
    red = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    red[:, 0] = 255
    assert pictures.grid(red, 1).getpixel((5, 5)) == (255, 0, 0)


def test_an_animation_has_all_its_frames(tmp_path: Path) -> None:
    frames = [pictures.caption(Image.new("RGB", (60, 40), (40 * index, 0, 0)), f"{index}") for index in range(4)]
    pictures.animate(frames, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]


def test_moments_are_log_spaced_with_both_ends() -> None:
    moments = [0, 1000, 2000, 4000, *range(8000, 240_001, 8000)]
    chosen = [moments[index] for index in log_spaced(moments, 9)]
    assert chosen[0] == 0
    assert chosen[1] == 1000
    assert chosen[-1] == 240_000
    assert len(chosen) <= 9
    assert log_spaced([0, 5], 9) == [0, 1]


@pytest.mark.parametrize("model", [model for model in MODELS if has_autoencoder(model)])
def test_a_reconstruction_is_as_far_from_its_image_as_the_energy_says(model: str) -> None:
    game = build_game(small("loss=energy", "model.discriminator.autoencoder=true", "trick=[ema]", model=model), CPU)
    images, labels = torch.rand(5, 1, 16, 16) * 2 - 1, torch.zeros(5, dtype=torch.long)
    before, random = weights(game), torch.get_rng_state()
    shown = game.pictures((images, labels))["reconstructions"]
    assert shown.columns == 5
    assert torch.equal(shown.images[:5], images)
    logits, _ = game.model.discriminator.eval()(images, labels)
    assert torch.allclose((shown.images[5:] - images).flatten(1).norm(dim=1), -logits, atol=1e-4)
    game.model.train()
    assert same(before, weights(game))
    assert torch.equal(random, torch.get_rng_state())


def test_only_an_autoencoder_shows_reconstructions() -> None:
    batch = torch.zeros(4, 1, 16, 16), torch.zeros(4, dtype=torch.long)
    assert build_game(small(), CPU).pictures(batch) == {}


def test_images_of_a_pack_are_shown_apart() -> None:
    game = build_game(small("loss=energy", "model.discriminator.autoencoder=true", "trick=[packing]"), CPU)
    images = torch.rand(5, 1, 16, 16)
    shown = game.pictures((images, torch.zeros(5, dtype=torch.long)))["reconstructions"]
    assert shown.columns == 4
    assert torch.equal(shown.images[:4], images[:4])
    assert shown.images.shape == (8, 1, 16, 16)


def test_a_run_of_an_autoencoder_ends_with_held_out_images_above_their_reconstructions(tmp_path: Path) -> None:
    overrides = ["loss=energy", "model.discriminator.autoencoder=true", "logger=csv", "budget.images=16"]
    play(tmp_path / "run", *overrides)
    data = instantiate(small(*overrides, model="gan").data)
    with Image.open(tmp_path / "run" / "samples" / "reconstructions.png") as found:
        expected = pictures.grid(data.splits.validation.images[:12], 12)
        assert found.size == (expected.width, 2 * expected.height - 2)
        assert found.crop((0, 0, *expected.size)).tobytes() == expected.tobytes()


def test_values_of_any_shape_become_something_to_look_at() -> None:
    images = torch.rand(2, 3, 4, 4) * 2 - 1
    assert torch.equal(pictures.as_images(images), pictures.to_uint8(images))
    beside = pictures.as_images(torch.stack([torch.full((4, 4), -1.0), torch.full((4, 4), 1.0)])[None])
    assert beside.shape == (1, 1, 4, 8)
    assert (int(beside[..., :4].max()), int(beside[..., 4:].min())) == (0, 255)
    rising, high = pictures.as_images(torch.stack([torch.linspace(-1, 1, 48), torch.full((48,), 1.0)]))
    assert rising.shape == (1, 84, 84)
    heights = rising[0].argmax(0)[3:80]  # the first bright pixel of each column
    assert heights.diff().le(0).all()
    assert heights[0] - heights[-1] > 70
    assert set(high[0].argmax(0)[3:80].tolist()) == {3}
