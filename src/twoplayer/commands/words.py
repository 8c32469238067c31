"""Checks of the command line before Hydra composes it.

They catch settings in the spelling of other programs, and choices that do not exist.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig

from twoplayer.config.mistakes import is_sweep
from twoplayer.errors import ConfigurationError
from twoplayer.paths import CONF
from twoplayer.settings import choices, compose_config

MODES = {
    "-m": "--multirun",
    "-r": "--run",
    "-c": "--cfg",
    "-i": "--info",
    "-sc": "--shell-completion",
    **{mode: mode for mode in ("--multirun", "--run", "--cfg", "--info", "--shell-completion")},
}
"""Hydra's modes, of which only one can be used at a time."""

OPTIONS = {
    *MODES,
    *("--help", "--hydra-help", "--version", "--resolve", "--package", "--config-path", "--config-name", "--config-dir"),
    "--experimental-rerun",
}

SEVERAL = ("trick", "metric", "logger", "callbacks", "experiment")
"""Groups with more than one choice at a time."""


def refuse_words(script: str, words: Sequence[str]) -> None:
    """Raise ConfigurationError for mistakes that Hydra accepts or reports unclearly."""
    modes = {mode: word for word in words if (mode := MODES.get(word.partition("=")[0]))}
    if len(modes) > 1:
        raise ConfigurationError(f"{' and '.join(modes.values())}: use only one of these")
    answers = [answer for name, value, option in _settings(words) if (answer := _answer(script, name, value, option, words))]
    if answers:
        raise ConfigurationError("; ".join(answers))
    if script != "train":
        return
    is_sweep = "--multirun" in modes or "hydra.mode=MULTIRUN" in words
    is_job = "hydra.mode=RUN" in words  # one job of a search, run alone
    if not is_sweep and not is_job and not modes and "--help" not in words and any(re.match(r"\+*search=", word) for word in words):
        raise ConfigurationError("search: this is a sweep, which needs -m: python src/train.py -m +search=...")
    if not is_sweep:
        _refuse_sweep(words)
    for word in words:
        if "=" in word and not word.startswith("~") and (CONF / _group(word)).is_dir():
            _refuse_choice(word)


def _refuse_sweep(words: Sequence[str]) -> None:
    """Refuse several values of one setting without -m."""
    for word in words:
        if is_sweep(word):
            name, _, value = word.partition("=")
            several = f"; to choose several at once, write '{name}=[{value}]'" if _group(word) in SEVERAL else ""
            raise ConfigurationError(f"{word}: several values are a sweep, which needs -m: python src/train.py -m {word}{several}")


def _settings(words: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """The settings of a command: name, value, and whether it was written as an option (--name)."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        option = name.startswith("--") and not any(known.startswith(name) for known in OPTIONS)
        if option and not equals:
            following = words[index + 1] if index + 1 < len(words) else ""
            value = "" if following.startswith("-") or "=" in following else following
        if option or equals:
            yield name.lstrip("-+"), value, option


def _group(word: str) -> str:
    return re.split("[=@]", word.lstrip("+"))[0]


def _refuse_choice(word: str) -> None:
    """Refuse an empty choice, several choices where one is allowed, and repeated choices."""
    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException:
        return  # Hydra reports it
    name, group = word.partition("=")[0].lstrip("+"), _group(word)
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        if choice is None or choice == "":
            written = word.partition("=")[2] if choice is value else "null"
            remedy = f"write '{group}=[]' for none" if group in ("trick", "metric") else "leave it out for the default"
            raise ConfigurationError(f"{name}={written}: must be one of {', '.join(choices(group))}; {remedy}")
        if isinstance(choice, list):
            several = [entry.text if isinstance(entry, QuotedString) else str(entry) for entry in choice]
            if group not in SEVERAL:
                raise ConfigurationError(f"{name}=[{','.join(several)}]: takes one choice, without brackets: {', '.join(choices(group))}")
            twice = next((entry for entry in several if several.count(entry) > 1), None)
            if twice is not None:
                raise ConfigurationError(f"{name}=[{','.join(several)}]: {twice} is named twice; name it once")


def _answer(script: str, name: str, value: str, option: bool, words: Sequence[str]) -> str | None:
    """The message for a setting written as in other programs; None if it is written correctly."""
    asked = f"{'--' if option else ''}{name}{' ' if option and value else '='}{value}".rstrip("=" if option else "")
    plain = name.replace("-", "_").lower()
    if script == "train" and plain in HABITS and (remedy := HABITS[plain](value or "<value>", words)):
        return f"{asked}: use {remedy}"
    if option:
        return f"{asked}: write settings as name=value: {name.replace('-', '_')}={value or '<value>'}"
    return None


Habit = Callable[[str, Sequence[str]], str | None]


def _is(*settings: str) -> Habit:
    return lambda value, words: " ".join(f"{setting}={value}" for setting in settings)


def _device(value: str, words: Sequence[str]) -> str:
    return "trainer=cpu" if value == "cpu" else "trainer=gpu (the default uses a GPU if there is one)"


def _gpus(value: str, words: Sequence[str]) -> str:
    return "trainer=cpu" if value == "0" else f"trainer=gpu trainer.devices={value if value.isdigit() else '<how many>'}"


def _resume(value: str, words: Sequence[str]) -> str | None:
    """`resume` exists here too, but is not a switch."""
    switch = {
        "true": "resume=auto",
        "1": "resume=auto",
        "yes": "resume=auto",
        "<value>": "resume=auto",
        "false": "resume=null",
        "0": "resume=null",
    }
    return switch.get(value.lower())


def _epochs(value: str, words: Sequence[str]) -> str:
    """One epoch is one pass over all training images."""
    return _images(value, words, "epochs", _num_images)


def _iterations(value: str, words: Sequence[str]) -> str:
    """One iteration is one batch of real images."""
    return _images(value, words, "iterations", lambda config: int(config.data.batch_size))


def _images(value: str, words: Sequence[str], unit: str, images_of: Callable[[DictConfig], int]) -> str:
    try:
        each, number = images_of(_composed(words)), float(value)
    except (ValueError, HydraException):  # not a number, or the size of the data is unknown
        each, number = 0, 0.0
    if not 0 < number * each < 1e12:
        return f"budget.images=<{unit} times the images of one>"
    return f"budget.images={round(number * each)} ({value} {unit} of {each:,} images)"


def _num_images(config: DictConfig) -> int:
    """The number of training images; raises ValueError if it depends on the data itself."""
    if config.data.classes is not None or not config.data._target_.endswith("MNIST"):
        raise ValueError
    return int(config.data.num_images or 60_000)


def _composed(words: Sequence[str]) -> DictConfig:
    """Compose the settings of the command that affect data and batch size."""
    asked = [word for word in words if not is_sweep(word)]
    habits = [f"data.batch_size={value}" for name, value, _ in _settings(words) if name.replace("-", "_") in BATCH_SIZES and value]
    return compose_config("train", *(word for word in asked if re.match(r"(data|experiment|model)[=.]", word)), *habits)


BATCH_SIZES = ("batch_size", "batchsize", "bs")
PLAYERS = ("optimizer.generator", "optimizer.discriminator")
HABITS: dict[str, Habit] = {
    **dict.fromkeys(("lr", "learning_rate", "optimizer.lr"), _is(*(f"{player}.lr" for player in PLAYERS))),
    **dict.fromkeys(("lr_g", "g_lr", "lrg"), _is("optimizer.generator.lr")),
    **dict.fromkeys(("lr_d", "d_lr", "lrd"), _is("optimizer.discriminator.lr")),
    **{f"{group}{beta}": _is(*(f"{player}.{beta}" for player in PLAYERS)) for beta in ("beta1", "beta2") for group in ("", "optimizer.")},
    "optim": _is("optimizer"),
    "optimizer_g": _is("optimizer/player@optimizer.generator"),
    "optimizer_d": _is("optimizer/player@optimizer.discriminator"),
    **dict.fromkeys(BATCH_SIZES, _is("data.batch_size")),
    **dict.fromkeys(("image_size", "img_size", "imagesize"), _is("data.image_size")),
    "dataset": _is("data"),
    **dict.fromkeys(("dataroot", "data_root", "data_dir"), _is("data.root")),
    **dict.fromkeys(("nz", "z_dim", "latent_dim", "latent_size"), _is("model.generator.latent_size")),
    "ngf": _is("model.generator.width"),
    "ndf": _is("model.discriminator.width"),
    **dict.fromkeys(("epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "niter"), _epochs),
    **dict.fromkeys(("steps", "max_steps", "num_steps", "iterations", "max_iterations", "iters", "num_iterations"), _iterations),
    **dict.fromkeys(("gpus", "num_gpus", "ngpu"), _gpus),
    "devices": _is("trainer.devices"),
    "device": _device,
    "accelerator": _is("trainer.accelerator"),
    "resume": _resume,
    **dict.fromkeys(("output_dir", "out_dir", "save_dir"), _is("run")),
    "tricks": _is("trick"),
    "n_critic": lambda value, words: f"'trick=[discriminator_steps]' trick.discriminator_steps.steps={value}",
}
