"""From images in [-1, 1] to PNG files that a person looks at."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 2
SHOWN_SIZE = 84
"""Small images are enlarged, by whole pixels, to about this."""


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, on the CPU; -1 is 0 and 1 is 255."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def picture(image: Tensor) -> Image.Image:
    """One uint8 image (1 or 3, H, W)."""
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def grid(images: Tensor, columns: int) -> Image.Image:
    """uint8 images (N, C, H, W), enlarged, in rows of so many."""
    factor = max(1, round(SHOWN_SIZE / images.shape[-1]))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    num, channels, height, width = images.shape
    rows = -(-num // columns)
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + GAP) + GAP, (index % columns) * (width + GAP) + GAP
        canvas[:, top : top + height, left : left + width] = image
    return picture(canvas)


def caption(image: Image.Image, text: str) -> Image.Image:
    """The image with a line of text below it."""
    height = 26
    canvas = Image.new("RGB", (image.width, image.height + height), "white")
    canvas.paste(image, (0, 0))
    ImageDraw.Draw(canvas).text((6, image.height + 3), text, fill="black", font=ImageFont.load_default(16))
    return canvas


def filmstrip(rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Rows of pictures of one size, each with a label at its left."""
    margin = 190
    width, height = rows[0][1].size
    canvas = Image.new("RGB", (margin + width, len(rows) * height), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (label, image) in enumerate(rows):
        draw.multiline_text((8, index * height + height // 2), label, fill="black", font=ImageFont.load_default(16), anchor="lm")
        canvas.paste(image, (margin, index * height))
    return canvas


def animate(frames: Sequence[Image.Image], path: Path) -> None:
    """A GIF that lingers on its last frame."""
    durations = [*[400] * (len(frames) - 1), 3000]
    frames[0].save(path, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0)
