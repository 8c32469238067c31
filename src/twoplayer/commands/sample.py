"""Writing samples of a run as pictures and tensors."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, MinLen
from safetensors.torch import save_file

from twoplayer import pictures, plots
from twoplayer.paths import make_folder
from twoplayer.runs.saved import home, load


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
    labels: Annotated[int, Ge(0)] | Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] | None,
) -> None:
    """Write samples of a run as one grid and print the paths of all files.

    With `labels`, samples are of these classes in turn, and the file names name them.
    Optionally also writes single PNG files and one .safetensors file: images as uint8 (N, C, H, W),
    data of another shape as float32. Points in the plane become one picture. With `interpolate`,
    each row of the grid interpolates between two samples, and `num` is rounded up to whole rows.
    """
    generator = load(run)
    drawn = generator.interpolate(-(-num // columns), columns, seed, labels) if interpolate else generator(num, seed, labels)
    images = pictures.as_images(drawn)
    points = drawn.ndim == 2 and drawn.shape[1] == 2
    folder = Path(output or home(run) / "generated")
    make_folder("output", folder)
    chosen = [] if labels is None else [labels] if isinstance(labels, int) else labels
    way = "".join(f"_{label}" for label in chosen) + ("_interpolated" if interpolate else "")
    path = folder / f"seed{seed}_{num}{way}.png"
    (plots.scatter(drawn) if points else pictures.grid(images, columns)).save(path)
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
