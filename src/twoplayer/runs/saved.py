"""Loading the generator of a saved run, for notebooks and the scripts."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from twoplayer import pictures
from twoplayer.config.check import check_parts
from twoplayer.data.base import Data
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.metrics import recorded
from twoplayer.settings import family, tags, written
from twoplayer.storage import checkpoints
from twoplayer.storage.run_folder import read_config, read_summary

EXPORTED = "generator.safetensors"


class SavedGenerator:
    """The generator of a run: `generator(64)` returns images (64, C, H, W) in [-1, 1].

    `generator.game` is the whole game, in evaluation mode, and `generator.summary` what the run
    says of itself.
    """

    def __init__(self, game: Game, config: DictConfig, summary: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.game, self.config, self.summary = game.eval(), config, summary

    def __repr__(self) -> str:
        """Such as `<dcgan, hinge, ema on mnist: 64 latents to 1 x 28 x 28; fd 17.2>`."""
        if self.game.model.translates:
            return f"<{self._kind()}: {' x '.join(map(str, self.source_shape))} sources to images{self._facts()}>"
        shape = " x ".join(map(str, self.game.sample(self.game.latents(1, "sample", 0), self.game.labels(1)).shape[1:]))
        told = f" and {self.num_classes} classes" if self.num_classes is not None else ""
        return f"<{self._kind()}: {self.latent_size} latents{told} to {shape}{self._facts()}>"

    def _kind(self) -> str:
        data, model, loss, *tricks = tags(self.config)
        return f"{', '.join([model, loss, *(['+'.join(tricks)] if tricks else [])])} on {data}"

    def _facts(self) -> str:
        facts = [f"{self.summary['images_seen']:,} images seen"] if self.summary.get("images_seen") else []
        facts += [f"{score.name} {recorded.digits(score.value)}" for score in recorded.read(self.summary)[:1] if score.value is not None]
        return "".join(f"; {fact}" for fact in facts)

    def __call__(
        self,
        num: int | None = None,
        seed: int = 0,
        labels: int | Sequence[int] | Tensor | None = None,
        *,
        latents: Tensor | None = None,
        truncation: float | None = None,
        sources: Tensor | None = None,
    ) -> Tensor:
        """Draw images (num, C, H, W) in [-1, 1] that depend on `seed` and `labels` only.

        A conditional model draws images of these labels in turn, by default of all classes.
        Averaged weights are used if the run has them. With `latents` (N, latent_size), images are
        drawn from these. `truncation` draws Gaussian latents again that are larger: with less of
        them, samples are more typical and less diverse (Brock et al., 2019, arXiv:1809.11096). A
        model that translates makes its images from `sources` (N, C, H, W) in [-1, 1], one each.

        Raises ConfigurationError for labels, latents or sources that the model does not know, and
        for a truncation of latents that are not Gaussian.
        """
        if sources is not None:
            return self._translated(sources, seed)
        if latents is None:
            if num is None:
                raise ConfigurationError("name a number of images, as in generator(64), or latents")
            return self._images(self.latents(num, seed, truncation), self._labels(num, labels))
        if truncation is not None or num not in (None, len(latents)):
            raise ConfigurationError("latents: they are used as they are; leave out the number of images and the truncation")
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise ConfigurationError(f"latents of shape {tuple(latents.shape)}: this generator takes (N, {self.latent_size})")
        return self._images(latents.float().to(self.game.device), self._labels(len(latents), labels))

    @property
    def source_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of the images that a model that translates is given."""
        if not self.game.model.translates:
            raise ConfigurationError(
                "source: the model of this run translates no images; leave it out, or train one that does, such as experiment=pix2pix"
            )
        settings = self.config.model.generator
        return int(settings.source_channels), int(settings.image_size), int(settings.image_size)

    def _translated(self, sources: Tensor, seed: int) -> Tensor:
        if sources.shape[1:] != self.source_shape:
            raise ConfigurationError(
                f"sources of shape {tuple(sources.shape)}: this model takes (N, {', '.join(map(str, self.source_shape))})"
            )
        return self._images(self.game.latents(len(sources), "sample", seed), sources.float().to(self.game.device))

    def latents(self, num: int, seed: int = 0, truncation: float | None = None) -> Tensor:
        """The latents (num, latent_size) of `generator(num, seed)`.

        With `truncation`, their distribution is a normal one that is cut off at plus and minus this
        number, and each latent keeps its rank. Raises ConfigurationError if the latents of this run
        are not Gaussian.
        """
        drawn = self.game.latents(num, "sample", seed)
        if truncation is None:
            return drawn
        if self.game.tricks.priors or truncation <= 0:
            reason = "those of this run are not" if self.game.tricks.priors else "it must be greater than 0"
            raise ConfigurationError(f"truncation={truncation}: it cuts off Gaussian latents; {reason}")
        mass = math.erf(truncation / math.sqrt(2))
        return torch.erfinv(torch.erf(drawn.double() / math.sqrt(2)) * mass).mul(math.sqrt(2)).float()

    def grid(
        self, num: int = 64, seed: int = 0, labels: int | Sequence[int] | Tensor | None = None, *, columns: int = 8, **how: Any
    ) -> Image.Image:
        """The images of a call as one picture; a notebook shows it."""
        return pictures.grid(pictures.as_images(self(num, seed, labels, **how)), columns)

    def to(self, device: str | torch.device) -> "SavedGenerator":
        """Move to a device, such as "cuda"; returns itself."""
        self.game.to(device)
        return self

    @property
    def latent_size(self) -> int:
        """The dimensions of the latents."""
        return self.game.model.latent_size

    @property
    def num_classes(self) -> int | None:
        """The number of classes that images can be drawn of; None if the model knows no classes."""
        return int(self.config.data.num_classes) if self.game.model.conditional else None

    def interpolate(self, num: int = 8, steps: int = 8, seed: int = 0, labels: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """Interpolate between `num` pairs of samples: images (num * steps, C, H, W).

        Both ends of a pair have the same label, as in `__call__`.

        Latents follow great circles: a straight line passes closer to zero than the latents seen in
        training (White, 2016, arXiv:1609.04468).
        """
        ends = self.game.latents(2 * num, "sample", seed)
        ways = great_circles(ends[:num], ends[num:], steps)
        return self._images(ways, self._labels(num, labels).repeat_interleave(steps))

    def walk(self, num: int, stations: int, steps: int, seed: int = 0, labels: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """`num` images on their way past `stations` samples and back, along great circles.

        Returns (stations * steps, num, C, H, W): the pictures of an animation that can be repeated.
        """
        places = self.game.latents(num * stations, "sample", seed).view(stations, num, -1)
        ways = [
            great_circles(places[at], places[(at + 1) % stations], steps + 1).view(num, steps + 1, -1)[:, :-1] for at in range(stations)
        ]
        moments = torch.cat(ways, 1).transpose(0, 1)
        return self._images(moments.flatten(0, 1), self._labels(num, labels).repeat(stations * steps)).unflatten(0, (-1, num))

    def plane(self, columns: int, labels: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """Images (columns * columns, C, H, W) of all latents of a generator that has two.

        They are at equal steps of the normal distribution's quantiles, the first latent from left
        to right. Raises ConfigurationError if the generator has more latents.
        """
        if self.latent_size != 2:
            raise ConfigurationError(
                f"plane: this generator has {self.latent_size} latents, which are no plane; train one with model.generator.latent_size=2"
            )
        places = torch.special.ndtri((torch.arange(columns, dtype=torch.float64) + 0.5) / columns).float()
        second, first = torch.meshgrid(places.flip(0), places, indexing="ij")
        return self(latents=torch.stack([first.flatten(), second.flatten()], 1), labels=labels)

    def _labels(self, num: int, chosen: int | Sequence[int] | Tensor | None) -> Tensor:
        """Labels (num) in turn from the chosen ones."""
        if chosen is None:
            return self.game.told(num)
        labels = torch.as_tensor(chosen, device=self.game.device).flatten()
        if self.num_classes is None:
            raise ConfigurationError(
                f"labels={labels.tolist()}: the model of this run knows no classes; leave labels out, or train one that does, such as experiment=cdcgan"
            )
        wrong = [label for label in labels.tolist() if label not in range(self.num_classes)]
        if wrong or not len(labels):
            raise ConfigurationError(f"labels={labels.tolist()}: the classes are 0 to {self.num_classes - 1}; name one or more of them")
        return labels[torch.arange(num, device=labels.device) % len(labels)]

    def _images(self, latents: Tensor, told: Tensor) -> Tensor:
        return torch.cat([self.game.sample(*chunk) for chunk in zip(latents.split(500), told.split(500), strict=True)])


def great_circles(begin: Tensor, end: Tensor, steps: int) -> Tensor:
    """Interpolate from rows of `begin` to rows of `end` (N, d) by equal angles: (N * steps, d)."""
    share = torch.linspace(0, 1, steps, device=begin.device)[None, :, None]
    angle = torch.nn.functional.cosine_similarity(begin, end).clamp(-1 + 1e-6, 1 - 1e-6).acos()[:, None, None]
    ways = (((1 - share) * angle).sin() * begin[:, None] + (share * angle).sin() * end[:, None]) / angle.sin()
    return ways.flatten(0, 1)


def load(run: str | Path) -> SavedGenerator:
    """Load the generator of a run folder, a checkpoint file or a folder that `src/export.py` wrote.

    Of a run folder, the newest intact checkpoint is loaded. Only classes of this package are built,
    and only tensors and plain values are read: loading a run executes no code from it.

    Raises ConfigurationError if there is no such thing, DataError if it cannot be read.
    """
    path = Path(run)
    if (path / EXPORTED).is_file():
        return _load_exported(path)
    found = checkpoints.find(path)
    if found is None:
        raise ConfigurationError(
            f"run={run}: there is no checkpoint in this folder; name the folder of a saved run, such as one in outputs/, or a checkpoint file"
        )
    file, checkpoint = found
    record = checkpoint.get("run")
    record = record if isinstance(record, dict) else {}
    config = _own_config(record.get("config"), file)
    game = _build(config, file, record.get("versions"))
    try:
        game.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise DataError(f"{file}: its weights do not fit its own configuration: {' '.join(str(error).split())[:200]}") from error
    return SavedGenerator(game, config, read_summary(home(path)))


def load_for(run: str | Path, data: Data) -> SavedGenerator:
    """Like `load`; raises ConfigurationError if the run was trained on other data than these.

    That is another data set, or one with other classes or of another shape.
    """
    generator = load(run)
    theirs, ours = family(generator.config.data), type(data).__module__.rpartition(".")[2]
    if theirs != ours:
        raise ConfigurationError(f"data={ours}: the run {run} was trained on data={theirs}; set data={theirs}")
    for key in ("image_size", "channels", "classes"):
        here, there = (written(value).replace(" ", "") for value in (getattr(data, key, None), generator.config.data.get(key)))
        read_from_files = key != "classes" and "null" in (here, there)
        if here != there and not read_from_files:
            raise ConfigurationError(f"data.{key}={here}: the run {run} was trained with {there}; set data.{key}={there}")
    return generator


def _load_exported(folder: Path) -> SavedGenerator:
    config = _own_config(read_config(folder), folder / "config.yaml")
    game = _build(config, folder / "config.yaml", None)
    try:
        sampling_generator(game).load_state_dict(load_file(folder / EXPORTED))
    except Exception as error:
        raise DataError(f"{folder / EXPORTED} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    return SavedGenerator(game, config)


def sampling_generator(game: Game) -> nn.Module:
    """The generator to sample from: the averaged one if the game has one."""
    return game.tricks.sampler(game.model.generator)


def _build(config: DictConfig, where: Path, versions: Any) -> Game:
    """Build the game; raises ConfigurationError if this version lacks one of its settings."""
    try:
        check_parts(config)
    except ConfigurationError as error:
        theirs = versions.get("twoplayer", "unknown") if isinstance(versions, dict) else "unknown"
        raise ConfigurationError(
            f"{where} was made by another version of twoplayer ({theirs}; this is {version('twoplayer')}): {error}. "
            "Use the version that made it, or train again"
        ) from error
    with torch.random.fork_rng(devices=[]):
        return build_game(config, torch.device("cpu"))


def _own_config(content: Any, where: Path) -> DictConfig:
    """Check a configuration that was saved with weights.

    It must hold plain values only, and name only classes of this package.
    """
    if not isinstance(content, dict) or any(
        not isinstance(content.get(part), dict) for part in ("model", "loss", "trick", "optimizer", "data")
    ):
        raise DataError(f"{where} has no complete configuration (model, loss, trick, optimizer, data)")
    if any("${" in text for text in _texts(content)):
        raise ConfigurationError(f"{where}: a saved configuration must hold plain values, not references such as ${{...}}")
    config = OmegaConf.create(content)
    for part in ("model", "loss", "trick", "optimizer"):
        refuse_foreign_targets(config[part])
    return config


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def home(run: str | Path) -> Path:
    """The run folder of a path, which is the folder itself or a checkpoint file."""
    path = Path(run).resolve()
    return path.parents[1] if path.is_file() and path.parent.name == checkpoints.FOLDER else path.parent if path.is_file() else Path(run)


MODULES = ("twoplayer.losses.", "twoplayer.models.", "twoplayer.tricks.")
OPTIMIZERS = "twoplayer.game.optimizers."


def _is_ours(target: str) -> bool:
    """Whether a `_target_` is a module or an optimizer of this package.

    These compute only: they neither read nor write files, nor run other code.
    """
    if not target.startswith((*MODULES, OPTIMIZERS)):
        return False
    try:
        found = get_object(target)
    except Exception:  # a class of another version: `_build` reports it
        return True
    if f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}" != target:  # imported into our module from elsewhere
        return False
    return inspect.isfunction(found) if target.startswith(OPTIMIZERS) else inspect.isclass(found) and issubclass(found, nn.Module)


def refuse_foreign_targets(config: Any) -> None:
    """Refuse any `_target_` outside the networks, losses, tricks and optimizers of this package.

    Raises ConfigurationError. A configuration from a file must not build anything else.
    """
    if OmegaConf.is_dict(config):
        target = config.get("_target_")
        if target is not None and not _is_ours(str(target)):
            raise ConfigurationError(f"_target_={target}: a saved run may only build networks, losses, tricks and optimizers of twoplayer")
    for value in config.values() if OmegaConf.is_dict(config) else config:
        if OmegaConf.is_config(value):
            refuse_foreign_targets(value)
