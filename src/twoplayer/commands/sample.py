"""Writing samples of a run as pictures and tensors."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from twoplayer import pictures, plots
from twoplayer.data.array_file import open_arrays
from twoplayer.data.decoding import Half
from twoplayer.data.samples import read_samples
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import make_folder
from twoplayer.runs.saved import home, load
from twoplayer.settings import written

WAYS = {
    "interpolate": "interpolated",
    "walk": "walk",
    "plane": "plane",
    "latents": "latents",
    "truncation": "truncated",
    "source": "translated",
}
"""How the name of a file ends."""
STATIONS, STEPS = 5, 12


def write_samples(
    *,
    run: str,
    num: Annotated[int, Gt(0)],
    seed: Annotated[int, Ge(0)],
    columns: Annotated[int, Gt(0)],
    output: str | None,
    single_files: bool,
    safetensors: bool,
    interpolate: bool,
    walk: bool | Literal["mp4"],
    plane: bool,
    latents: str | None,
    truncation: Annotated[float, Gt(0)] | None,
    source: str | None,
    source_half: Half | None,
    labels: Annotated[int, Ge(0)] | Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] | None,
) -> None:
    """Write samples of a run as one grid and print the paths of all files.

    With `labels`, samples are of these classes in turn, and the file names name them.
    Optionally also writes single PNG files and one .safetensors file: images as uint8 (N, C, H, W),
    data of another shape as float32. Points in the plane become one picture. With `interpolate`,
    each row of the grid interpolates between two samples, and `num` is rounded up to whole rows.
    `walk` writes a GIF, or an MP4, of the grid on its way through several samples. `plane` shows
    all that a generator of two latents draws. `latents` is a file with an array of that name, or
    only one. `source` is a folder or a file of images that a model translates, or that hold what it
    translates in their `source_half`: rows of sources and of what the model makes of them take
    turns, and `num` has no meaning.

    Raises ConfigurationError if more than one way to draw is chosen, or if it does not fit the run.
    """
    given = {"interpolate": interpolate, "walk": walk, "plane": plane, "latents": latents, "truncation": truncation, "source": source}
    ways = {name: value for name, value in given.items() if value not in (None, False)}
    if len(ways) > 1:
        raise ConfigurationError(f"{' and '.join(f'{name}={written(value)}' for name, value in ways.items())}: choose one of them")
    _refuse_unused(
        "source" in ways, "walk" in ways, labels=labels, source_half=source_half, single_files=single_files, safetensors=safetensors
    )
    generator = load(run)
    chosen = [] if labels is None else [labels] if isinstance(labels, int) else labels
    way = "".join(f"_{label}" for label in chosen) + "".join(f"_{WAYS[name]}" for name in ways)
    folder = Path(output or home(run) / "generated")
    if walk == "mp4" and importlib.util.find_spec("av") is None:
        raise ConfigurationError("walk=mp4: needs the package av; install it with uv sync --extra video, or set walk=true for a GIF")
    if walk:
        moments = generator.walk(num, STATIONS, STEPS, seed, labels)
        make_folder("output", folder)
        path = folder / f"seed{seed}_{num}{way}.{'mp4' if walk == 'mp4' else 'gif'}"
        write = pictures.video if walk == "mp4" else pictures.loop
        write([_picture(moment, columns) for moment in moments], path)
        print(path)
        return
    if interpolate:
        drawn = generator.interpolate(-(-num // columns), columns, seed, labels)
    elif plane:
        drawn = generator.plane(columns, labels)
    elif source is not None:
        sources = read_samples(Path(source), generator.source_shape, "source", least=1, half=source_half)
        drawn = generator(seed=seed, sources=sources)
    elif latents is not None:
        drawn = generator(latents=_read(Path(latents)), labels=labels)
    else:
        drawn = generator(num, seed, labels, truncation=truncation)
    images = pictures.as_images(drawn)
    make_folder("output", folder)
    path = folder / f"seed{seed}_{len(drawn) if plane or latents or source else num}{way}.png"
    shown = drawn if source is None else pictures.rows_in_turn(sources, drawn, columns)
    _picture(shown, columns).save(path)
    print(path)
    if single_files:
        singles = folder / f"seed{seed}{way}"
        singles.mkdir(exist_ok=True)
        for index, image in enumerate(images):
            pictures.picture(image).save(singles / f"{index:06}.png")
        print(singles)
    if safetensors:
        save_file({"images": pictures.to_uint8(drawn) if drawn.ndim == 4 else drawn}, path.with_suffix(".safetensors"))
        print(path.with_suffix(".safetensors"))


def _refuse_unused(from_source: bool, as_walk: bool, **settings: object) -> None:
    """Raise ConfigurationError for settings that the chosen way to draw would not use."""
    reasons = {
        "labels": "a model that translates is told sources, no classes" if from_source else "",
        "source_half": "" if from_source else "there is no source",
        "single_files": "a walk is one file" if as_walk else "",
        "safetensors": "a walk is one file" if as_walk else "",
    }
    for name, value in settings.items():
        if reasons[name] and value not in (None, False):
            raise ConfigurationError(f"{name}={written(value)}: {reasons[name]}; leave it out")


def _picture(drawn: Tensor, columns: int) -> Image.Image:
    points = drawn.ndim == 2 and drawn.shape[1] == 2
    return plots.scatter(drawn) if points else pictures.grid(pictures.as_images(drawn), columns)


def _read(path: Path) -> Tensor:
    """The latents in a file. Raises ConfigurationError or DataError if there are none."""
    if not path.is_file():
        raise ConfigurationError(f"latents={path}: there is no such file")
    arrays = open_arrays(path, "latents")
    if "latents" not in arrays and len(arrays) != 1:
        raise DataError(f"{path} holds the arrays {', '.join(arrays)}; call the one to use latents")
    found = arrays.get("latents") or next(iter(arrays.values()))
    if found.kind != "float" or len(found.shape) != 2:
        raise DataError(f"{path} holds latents of type {found.kind} and shape {found.shape}; they have to be floats (N, latent_size)")
    return found.read()
