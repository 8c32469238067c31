"""A GAN as one object, for notebooks: `GAN(loss="hinge").fit(images).sample(64)`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import HydraException
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from twoplayer.callbacks import samples
from twoplayer.config.compose import compose_run
from twoplayer.config.mistakes import in_words
from twoplayer.errors import ConfigurationError
from twoplayer.overrides import sets
from twoplayer.paths import make_folder, override
from twoplayer.runs.plan import plan_run
from twoplayer.runs.saved import SavedGenerator, load
from twoplayer.runs.train import train
from twoplayer.settings import compose_config

NUM_IMAGES = 60_000
"""As many as MNIST has: one epoch."""

Array = Tensor | np.ndarray[Any, Any]


class GAN:
    """A GAN of the same choices as `python src/train.py`, trained in this process.

    `overrides` are settings as on the command line, such as `optimizer.generator.lr=1e-3`. After
    `fit`, `run` is the folder of the run, `summary` its summary.json, and `generator` what
    `twoplayer.load` returns. A notebook shows the samples during training.

    Raises ConfigurationError if there is no such choice or setting; `fit` checks what they are
    together.
    """

    def __init__(
        self, *overrides: str, model: str = "dcgan", loss: str = "non_saturating", tricks: Sequence[str] = ("ema", "r1"), seed: int = 0
    ) -> None:
        self.overrides = [f"model={model}", f"loss={loss}", f"trick=[{','.join(tricks)}]", f"seed={seed}", *overrides]
        if not any(word.startswith("logger=") for word in overrides):
            self.overrides.append("logger=none")
        try:
            compose_config("train", *self.overrides)
        except HydraException as error:
            raise ConfigurationError(in_words(error, "train", self.overrides) or str(error)) from None
        self.run: Path | None = None
        self.summary: dict[str, Any] = {}
        self._generator: SavedGenerator | None = None

    def __repr__(self) -> str:
        """Such as `GAN(model=dcgan loss=hinge: 60,032 images seen, in outputs/mine)`."""
        state = f"{self.summary.get('images_seen', 0):,} images seen, in {self.run}" if self.run else "not trained"
        return f"GAN({' '.join(self.overrides)}: {state})"

    def _repr_png_(self) -> bytes | None:
        path = None if self.run is None else self.run / samples.FOLDER / samples.PROGRESS
        return path.read_bytes() if path is not None and path.is_file() else None

    def fit(
        self, images: Array | None = None, labels: Array | None = None, *, num_images: int | None = None, folder: str | Path | None = None
    ) -> "GAN":
        """Train until the players have seen `num_images` real images; returns itself.

        They are 60,000, unless the overrides have a budget.

        `images` are (N, H, W), (N, C, H, W) or (N, H, W, C), or examples (N, ...) of any other
        shape, as uint8 or float; without them the run has the data of its overrides, by default
        MNIST. They are saved beside the run. `labels` (N) are whole numbers from 0. `folder` is
        that of the run, which must be new. Called again with a larger `num_images`, the run is
        resumed exactly.

        Raises ConfigurationError or DataError if this cannot be trained, NumericsError if a number
        is not finite, and Interruption, saved, if it is interrupted.
        """
        words = list(self.overrides)
        if num_images is not None or not sets(words, "budget.images", "budget.seconds"):
            words.append(f"budget.images={num_images or NUM_IMAGES}")
        if folder is None and sets(words, "run"):
            folder = compose_config("train", *words).run
        if self.run is not None and folder is not None and Path(folder).absolute() != self.run.absolute():
            raise ConfigurationError(f"folder={folder}: this GAN is in {self.run}, where it is resumed; make a new GAN for another folder")
        target = self.run or (None if folder is None else Path(folder))
        with _lines():
            if images is not None:
                if target is None:
                    target = Path(compose_run(*words).run)
                file = target.with_name(f"{target.name}_data.safetensors")
                _keep(_tensors(images, labels), file)
                words += ["data=array", override("data.file", file)]
            elif labels is not None:
                raise ConfigurationError("labels without images: the data of a configuration have their own")
            if target is not None:
                words.append(override("run", target))
            config = compose_run(*words, *(["resume=auto"] if self.run else []))
            if config.referee and config.referee.act == "rollback":
                raise ConfigurationError("referee.act=rollback: a GAN in Python is one run; set referee.act=stop, or use src/train.py")
            plan = plan_run(config, target, overrides=words)
            self.run, self._generator = plan.folder, None
            self.summary = train(config, plan)
        return self

    @property
    def generator(self) -> SavedGenerator:
        """The trained generator. Raises ConfigurationError before `fit`."""
        if self.run is None:
            raise ConfigurationError("this GAN is not trained; call fit first")
        if self._generator is None:
            self._generator = load(self.run)
        return self._generator

    def sample(self, num: int, seed: int = 0, **how: Any) -> Tensor:
        """Images (num, C, H, W) in [-1, 1]; `how` as in a call of the generator, such as labels."""
        return self.generator(num, seed, **how)

    def grid(self, num: int = 64, seed: int = 0, **how: Any) -> Image.Image:
        """Samples as one picture."""
        return self.generator.grid(num, seed, **how)


def _tensors(images: Array, labels: Array | None) -> dict[str, Tensor]:
    found = {"images": torch.as_tensor(images).detach().cpu().contiguous()}
    if found["images"].dtype == torch.float64:
        found["images"] = found["images"].float()
    if labels is not None:
        found["labels"] = torch.as_tensor(labels).detach().cpu().contiguous()
    return found


def _keep(tensors: dict[str, Tensor], file: Path) -> None:
    """Save the data of a run. Raises ConfigurationError if the file holds other data."""
    if file.is_file():
        there = load_file(file)
        if there.keys() != tensors.keys() or any(not torch.equal(there[name], tensors[name]) for name in tensors):
            raise ConfigurationError(f"{file} holds other images than these; make a new GAN for them, or choose another folder")
        return
    make_folder("folder", file.parent)
    save_file(tensors, file)


@contextmanager
def _lines() -> Iterator[None]:
    """Show the lines of a run, if nobody else has set up logging."""
    log = logging.getLogger("twoplayer")
    if logging.getLogger().handlers or log.handlers:
        yield
        return
    handler, level = logging.StreamHandler(sys.stdout), log.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
