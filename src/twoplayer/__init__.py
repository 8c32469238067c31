"""twoplayer: GAN experiments with numbers you can trust."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from twoplayer.paths import CONF

if TYPE_CHECKING:  # importing them takes seconds, which --help does not need
    from twoplayer.runs import gan
    from twoplayer.runs.saved import SavedGenerator

__version__ = "0.3.0"

MOST_NAMED = 6
"""The largest number of tricks that the name of a run lists."""


def load(run: str | Path) -> "SavedGenerator":
    """Load the generator of a run; see `twoplayer.runs.saved.load`."""
    from twoplayer.runs import saved

    return saved.load(run)


def GAN(*overrides: str, **choices: Any) -> "gan.GAN":  # noqa: N802 (it makes an object)
    """A GAN to train in a notebook; see `twoplayer.runs.gan.GAN`."""
    from twoplayer.runs import gan

    return gan.GAN(*overrides, **choices)


def _tricks(*, _root_: Any) -> str:
    """The chosen tricks for the name of a run, limited since file names are limited in length."""
    names = list(map(str, _root_.trick))
    return ("+".join(names) or "plain") if len(names) <= MOST_NAMED else f"{'+'.join(names[:MOST_NAMED])}+{len(names) - MOST_NAMED}_more"


def _each(group: str) -> str:
    """All choices of a group as the values of a sweep, each in its own list."""
    return ",".join(f"[{path.stem}]" for path in sorted((CONF / group).glob("*.yaml")))


def _array(name: str, file: str) -> Any:
    """What a file says of the settings of `data=array`; `name` is a field of `Measured`."""
    from twoplayer.data.array import measure

    return getattr(measure(file), name)


def _idx(name: str, root: str, prefix: str | None) -> Any:
    """What IDX files say of the settings of `data=idx`; `name` is a field of `Measured`."""
    from twoplayer.data.idx import measure

    return getattr(measure(root, prefix), name)


def _shape(*, _root_: Any) -> list[int]:
    """The shape of one example: `data.shape`, or that of images if there is none."""
    data = _root_.data
    shape = data.get("shape")
    return [data.channels, data.image_size, data.image_size] if shape is None else list(shape)


def _output_activation(*, _root_: Any) -> str:
    """The last activation of a fully connected generator: none where data are not in [-1, 1]."""
    from hydra.utils import get_class

    return "tanh" if getattr(get_class(_root_.data._target_), "bounded", True) else "none"


def _class_folders(root: str) -> int:
    """The number of classes of `data=image_folder`."""
    from twoplayer.data.listing import num_classes

    return num_classes(root)


OmegaConf.register_new_resolver("array", _array, replace=True)
OmegaConf.register_new_resolver("idx", _idx, replace=True)
OmegaConf.register_new_resolver("output_activation", _output_activation, replace=True)
OmegaConf.register_new_resolver("shape", _shape, replace=True)
OmegaConf.register_new_resolver("class_folders", _class_folders, replace=True)
OmegaConf.register_new_resolver("each", _each, replace=True)
OmegaConf.register_new_resolver("tricks", _tricks, replace=True)
