"""Saves sample grids from fixed latents during training, and progress pictures made from them."""

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt
from PIL import Image
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from twoplayer import pictures
from twoplayer.game.game import Game
from twoplayer.loggers.base import log_picture

FOLDER = "samples"
PROGRESS = "progress.png"
REAL = "real.png"
MAX_ROWS = 9
MAX_COLUMNS = 20
NUM_HELD_OUT = 12
"""The number of held-out images that a model gets for its own pictures."""


class Samples(Callback):
    """Saves a grid of `num` samples to `samples/`, named by images seen.

    Grids are saved before training, at `first_images` and at each doubling of it, then every
    `every_images`, and at the end. The end adds an animation of all grids (progress.gif) and a
    strip of log-spaced ones (progress.png), and the pictures of model and tricks, such as
    reconstructions of held-out images or a sheet of codes. `real.png` is a grid of training images.
    A conditional model shows one class in each column.
    """

    def __init__(
        self,
        *,
        num: Annotated[int, Ge(1)],
        columns: Annotated[int, Ge(1)],
        first_images: Annotated[int, Gt(0)],
        every_images: Annotated[int, Gt(0)],
    ) -> None:
        self.num, self.columns, self.first_images, self.every_images = num, columns, first_images, every_images

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        if trainer.is_global_zero:
            num, columns = self._size(trainer, game)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            pictures.write(data.picture(data.shown(num, columns), columns, None), Path(trainer.default_root_dir) / FOLDER / REAL)
        if game.clock.iteration == 0:
            self._save(trainer, game)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        if trainer.should_stop:  # on_train_end saves this grid
            return
        if game.clock.crossed(self.every_images) or any(game.clock.crossed_once(moment) for moment in self._early()):
            self._save(trainer, game)

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._save(trainer, game)
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / FOLDER
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            sizes = self._size(trainer, game)
            path = self._tell(folder, game.clock.images_seen, data, *sizes)
            log_picture(trainer, "progress", path, game.clock.images_seen)
            for name, picture in game.pictures(data.held_out(0, NUM_HELD_OUT, game.device)).items():
                pictures.write(pictures.grid(pictures.as_images(picture.images), picture.columns), folder / f"{name}.png")
                log_picture(trainer, name, folder / f"{name}.png", game.clock.images_seen)

    def _size(self, trainer: Trainer, game: Game) -> tuple[int, int]:
        """The number of images and of columns of a grid."""
        num_drawn: int | None = trainer.datamodule.num_drawn  # type: ignore[attr-defined]
        if num_drawn is not None:  # all in one picture
            return num_drawn, num_drawn
        columns = len(game.classes) if game.model.conditional and len(game.classes) <= MAX_COLUMNS else self.columns
        return -(-self.num // columns) * columns if game.model.conditional else self.num, columns

    def _early(self) -> list[int]:
        moments: list[int] = []
        while (moment := self.first_images * 2 ** len(moments)) < self.every_images:
            moments.append(moment)
        return moments

    def _save(self, trainer: Trainer, game: Game) -> None:
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / FOLDER / f"{game.clock.images_seen:08}.png"
        num, columns = self._size(trainer, game)
        samples = self._drawn(game, num, columns)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        pictures.write(data.picture(samples, columns, None if game.loss.of_vectors else game.output), path)
        log_picture(trainer, "samples", path, game.clock.images_seen)

    @staticmethod
    def _drawn(game: Game, num: int, columns: int) -> Tensor:
        """Samples for a grid; a model that translates has rows of sources in between."""
        told = game.told(num)
        samples = game.sample(game.latents(num, "grid"), told)
        if not game.model.translates:
            return samples
        return pictures.rows_in_turn(told, samples, columns)[:num]

    def _tell(self, folder: Path, images_seen: int, data: Any, num: int, columns: int) -> Path:
        """Write progress.gif and progress.png of the grids so far. Returns the path of the PNG."""
        paths, num_images = list(grids(folder, images_seen).values()), len(data.splits.train.images)
        labels = [f"{int(path.stem):,} images\n{int(path.stem) / num_images:.2f} epochs" for path in paths]
        frames = [Image.open(path).convert("RGB") for path in paths]
        pictures.animate(
            [pictures.caption(grid, label.replace("\n", ", ")) for grid, label in zip(frames, labels, strict=True)], folder / "progress.gif"
        )
        chosen = log_spaced([int(path.stem) for path in paths], MAX_ROWS)
        if data.num_drawn is None:
            with Image.open(folder / REAL) as real:
                reference = "real", _first_rows(real.convert("RGB"), len(data.shown(num, columns)), columns)
            strip = pictures.filmstrip([(labels[index], _first_rows(frames[index], num, columns)) for index in chosen], reference)
        else:
            strip = pictures.board([pictures.caption(frames[index], labels[index].replace("\n", ", ")) for index in chosen], 3)
        strip.save(folder / PROGRESS)
        return folder / PROGRESS


def _first_rows(grid: Image.Image, num: int, columns: int) -> Image.Image:
    """The first two rows of a grid of `num` images, side by side."""
    rows = -(-num // columns)
    height = (grid.height - pictures.GAP) // rows
    parts = [grid.crop((0, row * height, grid.width, (row + 1) * height + pictures.GAP)) for row in range(min(2, rows))]
    canvas = Image.new("RGB", (sum(part.width for part in parts), parts[0].height))
    for index, part in enumerate(parts):
        canvas.paste(part, (index * grid.width, 0))
    return canvas


def grids(folder: Path, images_seen: int | None = None) -> dict[int, Path]:
    """The paths of grids in a folder by images seen, up to `images_seen` if it is given."""
    moments = {int(path.stem): path for path in sorted(folder.glob("[0-9]*.png")) if path.stem.isdigit()}
    return {moment: path for moment, path in moments.items() if images_seen is None or moment <= images_seen}


def log_spaced(moments: list[int], num: int) -> list[int]:
    """The indices of at most `num` of these ascending `moments`, spaced evenly on a log scale.

    The first and the last moment are always among them.
    """
    if len(moments) <= num:
        return list(range(len(moments)))
    start, end = moments[1], moments[-1]
    wanted = [start * (end / start) ** (step / (num - 2)) for step in range(num - 1)]
    return sorted({0} | {min(range(1, len(moments)), key=lambda index: abs(moments[index] - moment)) for moment in wanted})
