"""Pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twoplayer import pictures
from twoplayer.callbacks.samples import log_spaced


def test_minus_one_is_black_and_one_is_white() -> None:
    assert pictures.to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist() == [0, 128, 255, 255]


def test_a_grid_shows_each_image_in_its_place() -> None:
    images = torch.stack([torch.full((1, 84, 84), value, dtype=torch.uint8) for value in (0, 100, 200)])
    pixels = np.asarray(pictures.grid(images, columns=2))
    gap = pictures.GAP
    assert pixels.shape == (2 * (84 + gap) + gap, 2 * (84 + gap) + gap)
    assert (pixels[gap, gap], pixels[gap, 84 + 2 * gap], pixels[84 + 2 * gap, gap], pixels[-1, -1]) == (0, 100, 200, 255)


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
