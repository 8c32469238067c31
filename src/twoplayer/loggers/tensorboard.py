"""TensorBoard: the same scalars and pictures, for `tensorboard --logdir outputs`."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from twoplayer.loggers.base import History, RunLogger
from twoplayer.settings import short, written


class TensorBoard(RunLogger):
    """Event files in `tensorboard/` of the run folder; the step is images seen."""

    def __init__(self) -> None:
        super().__init__()
        self.writer: Any = None

    @rank_zero_only
    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        """Open an event file. TensorBoard drops earlier steps that a resumed run repeats."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder / "tensorboard", purge_step=None if history is None else history.images_seen + 1)
        lines = ["| setting | value |", "| --- | --- |", *(f"| {name} | {written(value)} |" for name, value in short(config).items())]
        self.writer.add_text("configuration", "\n".join(lines), 0)

    @property
    def name(self) -> str:
        return "tensorboard"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    @rank_zero_only
    def log_picture(self, name: str, path: Path, images_seen: int) -> None:
        with Image.open(path) as picture:
            self.writer.add_image(name, np.asarray(picture.convert("RGB")), images_seen, dataformats="HWC")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
