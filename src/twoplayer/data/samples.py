"""Samples of any program: a folder of images, or an array in a file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from twoplayer.data.array_file import SUFFIXES, open_arrays
from twoplayer.data.base import fit, to_unit_range
from twoplayer.data.decoding import Fault, Half, Target, decode, quiet
from twoplayer.data.layouts import to_images
from twoplayer.data.listing import list_images
from twoplayer.errors import ConfigurationError, DataError

NAMES = ("images", "samples", "data")


def read_samples(path: Path, shape: tuple[int, ...], setting: str = "samples", least: int = 2, half: Half | None = None) -> Tensor:
    """Samples (N, *shape) in [-1, 1] from the place that `setting` names.

    Images of another size are resized. `half` is the half of each image file that is read. Raises
    DataError if there are fewer than `least`, if they cannot be read, are of another shape, or hold
    numbers that are not finite, or of images not in [-1, 1].
    """
    if path.is_dir():
        samples = _decoded(path, sorted(file.name for file in list_images(path, 1, setting).files), shape, setting, half)
    elif path.suffix in SUFFIXES:
        samples = _array(path, shape, setting)
    elif path.is_file():
        samples = _decoded(path.parent, [path.name], shape, setting, half)
    else:
        raise ConfigurationError(
            f"{setting}={path}: there is no such folder or file; name a folder of images, or a .npz or .safetensors file"
        )
    if len(samples) < least:
        raise DataError(f"{setting}={path}: holds {len(samples)} sample; scores compare two or more, and mean something for thousands")
    return samples


def _decoded(folder: Path, names: Sequence[str], shape: tuple[int, ...], setting: str, half: Half | None) -> Tensor:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ConfigurationError(f"{setting}={folder}: an example of these data is {list(shape)}, and a folder holds images; name a file")
    target = Target(shape[0], shape[1], 255, half)
    images = []
    with quiet():
        for name in names:
            found = decode(folder / name, target)
            if isinstance(found, Fault):
                raise DataError(f"{setting}={folder}: {name} {found.reason}; mend or remove it")
            images.append(torch.from_numpy(found.pixels))
    return to_unit_range(torch.stack(images))


def _array(path: Path, shape: tuple[int, ...], setting: str) -> Tensor:
    arrays = open_arrays(path, setting)
    name = next((name for name in NAMES if name in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise DataError(f"{setting}={path}: has the arrays {', '.join(arrays) or 'none'}; one of them has to be called images")
    values = arrays[name].read()
    if values.dtype != torch.uint8:
        values = values.float()
        if not values.isfinite().all():
            raise DataError(
                f"{setting}={path}: sample {int((~values.flatten(1).isfinite()).any(1).nonzero()[0])} holds a number that is not finite"
            )
    if len(shape) == 3:
        values = to_images(values)
        if values.ndim == 4 and values.shape[1] == shape[0] and values.shape[2:] != shape[1:]:
            values = fit(values, shape[1])
        if values.is_floating_point() and len(values) and (values.min() < -1.001 or values.max() > 1.001):
            raise DataError(
                f"{setting}={path}: floats are in [{float(values.min()):g}, {float(values.max()):g}], and have to be in [-1, 1]; scale them, or store uint8"
            )
        if values.is_floating_point() and len(values) and values.min() >= 0:
            raise DataError(f"{setting}={path}: no float is below 0, so they are probably in [0, 1]; scale them to [-1, 1], or store uint8")
    if values.shape[1:] != shape:
        raise DataError(
            f"{setting}={path}: samples are {list(values.shape[1:])}, and the data {list(shape)}; choose the data that they are like"
        )
    return to_unit_range(values)
