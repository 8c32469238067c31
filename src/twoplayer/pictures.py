"""Images in [-1, 1] as grids, filmstrips and animations to look at."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from twoplayer.paths import replacing

GAP = 2
FONT_SIZE = 18
"""At smaller sizes the space of Pillow's font is three pixels wide, and words run together."""
APART = 18
"""The gap in pixels between the rows of a filmstrip and its reference."""
FRAME_MILLISECONDS = 80
SHOWN_SIZE = 84
"""Small images are enlarged by a whole factor to about this width in pixels."""


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 on the CPU; -1 becomes 0 and 1 becomes 255."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def as_images(values: Tensor) -> Tensor:
    """Values (N, ...) in [-1, 1] of any shape as uint8 images to look at.

    Images of one or three channels stay as they are, other channels are shown side by side. Of all
    other shapes the numbers are drawn as a curve, from -1 at the bottom to 1 at the top.
    """
    if values.ndim == 4:
        return to_uint8(values if values.shape[1] in (1, 3) else torch.cat(values.split(1, 1), 3))
    return torch.stack([_curve(numbers) for numbers in values.flatten(1).float().cpu().clamp(-1, 1)])


def _curve(numbers: Tensor) -> Tensor:
    """A uint8 image (1, H, W) of numbers (D) in [-1, 1] as a curve from left to right."""
    canvas = Image.new("L", (SHOWN_SIZE, SHOWN_SIZE))
    edge, span = 3, SHOWN_SIZE - 7
    across = torch.linspace(edge, edge + span, len(numbers))
    heights = edge + span * (1 - numbers) / 2
    ImageDraw.Draw(canvas).line([*zip(across.tolist(), heights.tolist(), strict=True)], fill=255)
    return torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8).view(1, SHOWN_SIZE, SHOWN_SIZE)


def picture(image: Tensor) -> Image.Image:
    """A Pillow image of one uint8 image (1 or 3, H, W)."""
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def rows_in_turn(one: Tensor, other: Tensor, columns: int) -> Tensor:
    """Two sets of as many images (N, C, H, W) as one, in rows that take turns."""
    return torch.cat([row for pair in zip(one.split(columns), other.split(columns), strict=True) for row in pair])


def row_height(image_size: int) -> int:
    """The pixels from one row of a grid of square images to the next."""
    return _enlarged(image_size) * image_size + GAP


def _enlarged(image_size: int) -> int:
    return max(1, round(SHOWN_SIZE / image_size))


def grid(images: Tensor, columns: int) -> Image.Image:
    """A grid of uint8 images (N, C, H, W), enlarged, with at most `columns` in a row."""
    columns = min(columns, len(images))
    factor = _enlarged(images.shape[-1])
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    num, channels, height, width = images.shape
    rows = -(-num // columns)
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + GAP) + GAP, (index % columns) * (width + GAP) + GAP
        canvas[:, top : top + height, left : left + width] = image
    return picture(canvas)


def caption(image: Image.Image, text: str) -> Image.Image:
    """The image with a line of text below; the result is as wide as the wider of the two."""
    height, font = 26, ImageFont.load_default(FONT_SIZE)
    canvas = Image.new("RGB", (max(image.width, 12 + math.ceil(font.getlength(text))), image.height + height), "white")
    canvas.paste(image, (0, 0))
    ImageDraw.Draw(canvas).text((6, image.height + 3), text, fill="black", font=font)
    return canvas


def filmstrip(rows: Sequence[tuple[str, Image.Image]], reference: tuple[str, Image.Image]) -> Image.Image:
    """Rows of pictures of one size with labels at the left, and the reference below a gap."""
    font, edge, spacing = ImageFont.load_default(FONT_SIZE), 10, 8
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    labels = [label for label, _ in (*rows, reference)]
    margin = 2 * edge + math.ceil(max(measure.multiline_textbbox((0, 0), label, font, spacing=spacing)[2] for label in labels))
    width, height = rows[0][1].size
    canvas = Image.new("RGB", (margin + width, (len(rows) + 1) * height + APART), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (label, image) in enumerate((*rows, reference)):
        top = index * height + (APART if index == len(rows) else 0)
        draw.multiline_text((edge, top + height // 2), label, "black", font, anchor="lm", spacing=spacing)
        canvas.paste(image, (margin, top))
    return canvas


def board(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures in rows of at most `columns`, each in a cell as large as the largest one."""
    width, height = max(image.width for image in images), max(image.height for image in images)
    columns = min(columns, len(images))
    canvas = Image.new("RGB", (columns * width, -(-len(images) // columns) * height), "white")
    for index, image in enumerate(images):
        canvas.paste(image, (index % columns * width, index // columns * height))
    return canvas


def animate(frames: Sequence[Image.Image], path: Path) -> None:
    """Write a GIF as wide as the widest frame that shows the last frame longer.

    It takes about ten seconds, however many frames there are.
    """
    durations = [*[max(60, min(400, 10_000 // len(frames)))] * (len(frames) - 1), 3000]
    first, *others = [_widened(frame, max(frame.width for frame in frames)) for frame in frames]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0)


def loop(frames: Sequence[Image.Image], file: Path | BinaryIO) -> None:
    """Write a GIF whose last frame leads back to the first."""
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0)


def video(frames: Sequence[Image.Image], path: Path) -> None:
    """Write an MP4 (H.264) of frames of one size, which is cut off to even numbers of pixels.

    It can be shown again and again without a jump if its last frame leads back to the first.
    Raises ImportError if the package av is missing.
    """
    import av

    width, height = (size // 2 * 2 for size in frames[0].size)
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=Fraction(1000, FRAME_MILLISECONDS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"}  # hardly any loss, since samples are small
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB").crop((0, 0, width, height)))))
        container.mux(stream.encode())


def _widened(image: Image.Image, width: int) -> Image.Image:
    canvas = Image.new("RGB", (width, image.height), "white")
    canvas.paste(image, (0, 0))
    return canvas


def write(picture: Image.Image, path: Path) -> None:
    """Save a picture at once as PNG, so that a reader never sees a part of it."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
