"""What tests share: composed configurations, small games and small runs."""

import copy
import functools
import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer

from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.config.check import _refuse_rival_tricks
from twoplayer.config.compose import checked, compose_run
from twoplayer.config.schema import Budget
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.paths import CONF
from twoplayer.runs.plan import plan_run
from twoplayer.runs.train import train
from twoplayer.settings import compose_config, family, leaves
from twoplayer.storage import checkpoints

PROJECT = CONF.parent
SYNTHETIC = [
    "data._target_=helpers.synthetic.Shapes",
    "~data.root",
    "data.num_classes=4",
    "data.batch_size=16",
    "data.image_size=16",
    "data.classifier=null",
    "metric=none",
    "logger=none",
    "precision=fp32",
    "~callbacks.diagnostics",  # a sheet takes longer to draw than a small run takes
    "callbacks.samples.num=16",
]
SMALL = [*SYNTHETIC, "trick=[]", LATENTS := "model.generator.latent_size=16"]  # room for the codes of InfoGAN
CPU = torch.device("cpu")
SEED = 0  # of what the tests themselves draw: moments of kills, bits that turn

torch.set_num_threads(1)  # tiny networks gain nothing from more, and the processes of a test do not fight for cores


def choices(group: str) -> list[str]:
    """The names in a configuration group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


composed = compose_run


def chosen(model: str) -> list[str]:
    """Overrides that choose a model of conf/model, or the one beside this file, and its loss."""
    if model == "minimal":
        return [MINIMAL, "model=minimal"]
    if "a discriminator" not in _family(model).lacks:
        return [f"model={model}"]
    return [f"model={model}", "loss=reconstruction" if _family(model).restores else "loss=own_costs"]


@functools.cache
def _family(model: str) -> Any:
    """The class of a model of conf/model."""
    return get_class(_as_it_is(model).model._target_)


@functools.cache
def _as_it_is(model: str) -> DictConfig:
    return compose_config("train", *([MINIMAL] if model == "minimal" else []), f"model={model}")


def data_for(model: str) -> list[str]:
    """Overrides that choose data with sources, if the model translates."""
    return ["data=pairs"] if model != "minimal" and _family(model).needs else []


@functools.cache
def has_latent_size(model: str) -> bool:
    """Whether the number of latents of a model of conf/model is a setting."""
    return "latent_size" in _as_it_is(model).model.generator


def _sources(model: str) -> list[str]:
    """Overrides that give data sources, if the model translates."""
    if model == "minimal" or not _family(model).needs:
        return []
    return ["data._target_=helpers.synthetic.ShapePairs", "+data.kind=edges", "+data.paired=true"]


def _small_sizes(model: str) -> list[str]:
    """Overrides that make a model tiny.

    Each whole number in its yaml, such as a width, is divided by 16, but is at least 4. Images
    have the smallest size that the model takes, which its own refusal names ("takes 28, 32"), and
    what else it asks of the data ("set data.num_labels=100").
    """
    config = compose_config("train", *chosen(model), "data.image_size=16")
    settings = dict(leaves(OmegaConf.to_container(config.model, resolve=False), "model."))

    def smaller(value: Any) -> Any:
        if isinstance(value, list):
            return [smaller(part) for part in value]
        return max(value // 16, 4) if isinstance(value, int) and not isinstance(value, bool) and value > 4 else value

    sizes = {name: smaller(value) for name, value in settings.items() if smaller(value) != value and f"{name}=16" not in SMALL}
    overrides = [f"{name}={value}".replace(" ", "") for name, value in sizes.items()]
    refuse = getattr(get_class(config.model._target_), "refuse", lambda config: None)
    while True:
        try:
            refuse(config)
            return overrides
        except ConfigurationError as error:
            size = re.findall(r"takes ([0-9]+)", str(error))
            overrides += [f"data.image_size={size[0]}"] if size else [re.findall(r"set (data\.\S+=\d+)", str(error))[0]]
            for name, value in (word.split("=", 1) for word in overrides):
                OmegaConf.update(config, name, yaml.safe_load(value))


def has_autoencoder(model: str) -> bool:
    """Whether the discriminator of a model can be an autoencoder."""
    config = copy.deepcopy(_composed_for(model))
    if "autoencoder" not in config.model.get("discriminator", {}):
        return False
    config.model.discriminator.autoencoder = True
    try:
        getattr(get_class(config.model._target_), "refuse", lambda config: None)(config)
    except ConfigurationError:
        return False
    return True


def _needs() -> dict[str, list[str]]:
    """The settings that each loss requires.

    They come from its own refusal: "...; set model.discriminator.autoencoder=true".
    """
    config, needs = compose_config("train"), {}
    OmegaConf.set_struct(config, False)
    for name in choices("loss"):
        content = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
        chosen = OmegaConf.merge(config, content if "loss" in content else {"loss": content})
        try:
            getattr(get_class(chosen.loss._target_), "refuse", lambda config: None)(chosen)
        except ConfigurationError as error:
            needs[name] = re.findall(r"set (\S+=\S+)", str(error))
    return needs


def _together() -> list[str]:
    """Tricks that can all be chosen at once.

    Of tricks that exclude each other, only the last by name is among them.
    """
    kept: dict[str, Any] = {}
    for name in reversed(choices("trick")):
        content = OmegaConf.load(CONF / "trick" / f"{name}.yaml")
        more = {name: content.trick[name] if "trick" in content else content, **kept}
        try:
            _refuse_rival_tricks(OmegaConf.create({"trick": more}))
        except ConfigurationError:
            continue
        kept = more
    return [*kept]


def _of_any_model(loss: str) -> bool:
    content = OmegaConf.load(CONF / "loss" / f"{loss}.yaml")
    found = get_class((content.loss if "loss" in content else content)._target_)
    return not (found.restores or found.needs_own_costs)


LOSSES = [loss for loss in choices("loss") if _of_any_model(loss)]
"""The losses of any GAN. The others need a model of a certain kind."""
MINIMAL = f"hydra.searchpath=[file://{Path(__file__).parent / 'conf'}]"  # where model=minimal is
MODELS = [*(name for name in choices("model") if name != "dcgan_paper"), "minimal"]
"""Each class of models once: `dcgan_paper` is `dcgan` without hidden layers."""


class _Widths(dict[str, list[str]]):
    """The overrides of a model, found when they are first asked for."""

    def __missing__(self, model: str) -> list[str]:
        self[model] = _small_sizes(model)
        return self[model]


WIDTHS = _Widths()
LOSS_SETTINGS = _needs()
UNLIKE = ("adaptive_steps", "frozen_discriminator")  # the turns of one cannot be foretold; with the other D has none
TOGETHER = [name for name in _together() if name not in UNLIKE]
APART = [name for name in choices("trick") if name not in TOGETHER]


def small(*overrides: str, model: str = "dcgan") -> DictConfig:
    """A tiny game on made-up images, without tricks unless some are named."""
    return composed(*_small_words(model), *overrides)


def _small_words(model: str) -> list[str]:
    fitting = SMALL if model == "minimal" or has_latent_size(model) else [word for word in SMALL if word != LATENTS]
    return [*chosen(model), *fitting, *_sources(model), *WIDTHS[model]]


def small_with(trick: str, model: str) -> DictConfig:
    """`small` with one trick, which is put into what was composed once for the model."""
    content = OmegaConf.load(CONF / "trick" / f"{trick}.yaml")
    if "defaults" in content:
        return small(f"trick=[{trick}]", model=model)
    config = copy.deepcopy(_composed_for(model))
    OmegaConf.set_struct(config, False)
    config.merge_with(content if "trick" in content else {"trick": {trick: content}})
    return checked(config, [f"trick=[{trick}]"])


@functools.cache
def _composed_for(model: str) -> DictConfig:
    return compose_config("train", *_small_words(model))


def fit(config: DictConfig, folder: Path, iterations: int, *callbacks: Callback, game: Game | None = None) -> Game:
    """Play some iterations in this process."""
    game = game or build_game(config, CPU)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        callbacks=[Stopwatch(Budget(images=iterations * config.data.batch_size, seconds=None)), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(game, datamodule=instantiate(config.data))
    return game


MOMENTS = re.compile(r"(budget\.(?:images|seconds)|resume)=([\w./-]+)")
"""Overrides that change nothing else: parts of one run differ in these alone."""


def play(folder: Path, *overrides: str, model: str = "gan") -> dict[str, Any]:
    """A small run in this process, with all that surrounds it; returns its summary."""
    return _play(folder, partial(small, model=model), overrides)


def _play(folder: Path, compose: Callable[..., DictConfig], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train with a configuration that is composed once for all parts of a run."""
    moments = [found.groups() for found in map(MOMENTS.fullmatch, overrides) if found]
    config = copy.deepcopy(_composed_once(compose, *(word for word in overrides if not MOMENTS.fullmatch(word))))
    for name, value in (*moments, ("run", str(folder))):
        OmegaConf.update(config, name, yaml.safe_load(value))
    return train(config, plan_run(config, folder))


def _composed_once(compose: Callable[..., DictConfig], *overrides: str) -> DictConfig:
    key = (repr(compose), overrides)
    if key not in _COMPOSED:
        _COMPOSED[key] = compose(*overrides)
    return _COMPOSED[key]


_COMPOSED: dict[tuple[str, tuple[str, ...]], DictConfig] = {}


def small_recipe(name: str, *overrides: str) -> DictConfig:
    """A recipe of conf/experiment with tiny players, on made-up images.

    Its tricks and its other settings stay; what waits for more images than a test has is shortened.
    """
    chosen = compose_config("train", f"experiment={name}")
    model = family(chosen.model)
    moments = {"trick.pretrain_discriminator.images": 32, "trick.schedule.end_images": 400}
    short = [f"{place}={images}" for place, images in moments.items() if OmegaConf.select(chosen, place)]
    if "image_size" not in chosen.data:  # points, which are small already
        points = [
            "data.num_examples=192",
            "data.batch_size=16",
            "logger=none",
            "threads=1",
            "~callbacks.diagnostics",
            *WIDTHS[model],
            *overrides,
        ]
        return composed(f"experiment={name}", *points)
    settings = [f"experiment={name}", *SYNTHETIC, *([LATENTS] if has_latent_size(model) else []), *WIDTHS[model], *short, *overrides]
    settings += [f"~data.{name}" for name in ("num_examples",) if name in chosen.data]
    settings += ["data._target_=helpers.synthetic.ShapePairs"] if "kind" in chosen.data else []
    try:
        return composed(*settings)
    except ConfigurationError:  # what is made for a size, such as attention at 14 x 14 pixels
        return composed(*settings, "data.image_size=28")


def play_recipe(folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    """A small run of a recipe in this process; returns its summary."""
    return _play(folder, partial(small_recipe, name), overrides)


def state_sha256(run: Path) -> str:
    """Of all that the newest checkpoint of a run holds of the game.

    Players, optimizers, loss, tricks, counters, sums of scalars, scores.
    """
    _, checkpoint = checkpoints.newest(run) or pytest.fail(f"nothing is saved in {run}")
    game = {name: checkpoint[name] for name in ("state_dict", "optimizer_states", "per_rank")}
    callbacks = {
        name: state for name, state in checkpoint["callbacks"].items() if name not in ("Stopwatch", "Summary", "Pace")
    }  # wall-clock time, processes
    digest = hashlib.sha256()

    def add(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(value[key], f"{path}.{key}")
        elif isinstance(value, list | tuple):
            for index, part in enumerate(value):
                add(part, f"{path}.{index}")
        elif isinstance(value, torch.Tensor):
            digest.update(f"{path} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(f"{path} {value!r}".encode())

    add([game, callbacks, checkpoint["run"]["images_seen"]], "")
    grid = run / "samples" / f"{checkpoint['run']['images_seen']:08}.png"  # which shows what samples are drawn from, saved or not
    digest.update(grid.read_bytes() if grid.exists() else b"")
    return digest.hexdigest()


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    """A copy of all parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


Record = Callable[[str, str, int, int], None]
"""Of the fixture `record`: a promise, what was tried, how often, and how often it held."""
